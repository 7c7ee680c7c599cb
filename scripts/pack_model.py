"""Packs a trained model into one small file, with whitening and thresholds from people it has not seen.

    python scripts/pack_model.py RUN --whitening TREE --thresholds TREE --out model.npz

The trees hold about a hundred walkers each, with CASIA-B's conditions; the partition JSON beside a tree makes
all of them test subjects. `mcl_jax.load("model.npz")` reads the file.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

from whitening import fit_whitening

import mcl_jax
from mcl_jax.errors import ConfigError, UserError
from mcl_jax.models.registry import Weights
from mcl_jax.weights.load import load_weights
from mcl_jax.weights.packed import SUFFIX, write_packed

PROTOCOL = "casiab_all_views"


def pack(arguments: argparse.Namespace) -> None:
    """Writes the file.

    Raises:
        UserError: for any mistake that the user can fix.
    """
    if arguments.out.suffix != SUFFIX:
        raise ConfigError(f"--out: {arguments.out} does not end in {SUFFIX}")
    weights = load_weights(arguments.run)
    if "whitening" not in weights.batch_stats:
        raise ConfigError(f"{arguments.run}: a {weights.block['name']} has no whitening to fit")
    plain = _embed(weights, arguments.whitening, arguments.workers)
    mean, maps = fit_whitening(plain.embeddings, plain.subjects)
    weights.batch_stats["whitening"].update(mean=mean, map=maps)
    others = _embed(weights, arguments.thresholds, arguments.workers)
    report = mcl_jax.score(others, PROTOCOL)
    assert report.verification is not None  # this protocol is always scored
    thresholds = {point.rate: point.threshold for point in report.verification.points}
    write_packed(arguments.out, dataclasses.replace(weights, thresholds=thresholds))
    print(report.table)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.2f} MB, step {weights.step}")
    for rate, distance in thresholds.items():
        print(f"false-accept rate {rate:g}: distances up to {distance:.4f}")


def _embed(weights: Weights, root: Path, workers: int) -> mcl_jax.EmbeddingSet:
    partition = root.with_name(f"{root.name}_partition.json")
    split = mcl_jax.open_dataset("walkers", root, partition=partition).test_split()
    return mcl_jax.Gait(weights).embed_split(split, workers=workers)


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="workdir of a run, or one of its checkpoints/STEP")
    parser.add_argument("--whitening", type=Path, required=True, help="tree to fit the whitening to")
    parser.add_argument("--thresholds", type=Path, required=True, help="tree to measure thresholds on")
    parser.add_argument("--out", type=Path, required=True, help="file to write, ending in .npz")
    parser.add_argument("--workers", type=int, default=1, help="number of reading processes (1)")
    try:
        pack(parser.parse_args())
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
