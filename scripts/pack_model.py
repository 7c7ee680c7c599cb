"""Packs a trained model into one small file, whitened by walks of people that it was not trained on.

    python scripts/pack_model.py RUN --root TREE --partition TREE_partition.json --out model.npz

The test subjects of the tree are those people, a hundred or so with walks of CASIA-B's conditions: every
second one is for the whitening, the others are for the thresholds of the distance.
`mcl_jax.load("model.npz")` reads the file.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np

import mcl_jax
from mcl_jax.errors import ConfigError, UserError
from mcl_jax.packed_weights import SUFFIX, write_packed
from mcl_jax.weights import load_weights
from mcl_jax.whitening import fit_whitening

PROTOCOL = "casiab_all_views"


def pack(arguments: argparse.Namespace) -> None:
    """Writes the file.

    Raises:
        UserError: for anything the user can mend.
    """
    if arguments.out.suffix != SUFFIX:
        raise ConfigError(f"--out: {arguments.out} does not end in {SUFFIX}")
    weights = load_weights(arguments.run)
    if "whitening" not in weights.batch_stats:
        raise ConfigError(f"{arguments.run}: a {weights.block['name']} has no whitening to be measured")
    split = mcl_jax.open_dataset("walkers", arguments.root, partition=arguments.partition).test_split()
    plain = mcl_jax.Gait(weights).embed_split(split, workers=arguments.workers)
    second = np.isin(plain.subjects, np.unique(plain.subjects)[1::2])
    mean, maps = fit_whitening(plain.embeddings[~second], plain.subjects[~second])
    weights.batch_stats["whitening"].update(mean=mean, map=maps)
    whitened = mcl_jax.Gait(weights).embed_split(split, workers=arguments.workers)
    columns = (whitened.embeddings, whitened.subjects, whitened.conditions, whitened.views)
    others = mcl_jax.EmbeddingSet(*(column[second] for column in columns))
    report = mcl_jax.score(others, PROTOCOL)
    assert report.verification is not None  # a protocol that is scored here
    thresholds = {point.rate: point.threshold for point in report.verification.points}
    write_packed(arguments.out, dataclasses.replace(weights, thresholds=thresholds))
    print(report.table)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.2f} MB, step {weights.step}")
    for rate, distance in thresholds.items():
        print(f"false-accept rate {rate:g}: distances up to {distance:.4f}")


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="workdir of a run of ours, or one of its checkpoints/STEP")
    parser.add_argument("--root", type=Path, required=True, help="folder of the tree of walkers")
    parser.add_argument("--partition", type=Path, required=True, help="its partition JSON")
    parser.add_argument("--out", type=Path, required=True, help="file to write, ending in .npz")
    parser.add_argument("--workers", type=int, default=1, help="processes that read (1)")
    try:
        pack(parser.parse_args())
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
