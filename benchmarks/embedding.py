"""Times the embedding of whole walks: mcl_jax with packed rows, PyTorch one walk at a time, as in OpenGait.

    python benchmarks/embedding.py --models gaitset gaitpart gaitgl gaitbase deepgaitv2 swingait --walks 16 1

Both sides take turns in one process on all its cores; run nothing else on the machine. "by CPU s" is the
ratio of CPU time, which other programs disturb less; "of peak" counts the plain convolutions' operations.
The timed outputs are compared, and a line is printed only if they agree.
"""

import argparse
import os
from collections import Counter

import numpy as np
import torch
from published import SIZES
from side_by_side import (
    HEADER,
    both_models,
    flops,
    matmul_peak,
    require_equal,
    row,
    take_turns,
    walk_lengths,
    walks,
)

from mcl_jax.data.feed.packing import SequencePacker
from mcl_jax.embed import Embedder
from mcl_jax.models import MODELS
from mcl_jax.utils.spacing import SIDE_BY_SIDE, Spacing

ROWS, SLOTS = 4, 256  # as in the published configs
LENGTHS = {1: np.array([60]), 16: walk_lengths(16, 1128), 200: walk_lengths(200)}


def compare(name: str, count: int, rounds: int, peak: float) -> str:
    """Returns the line for one model and number of walks."""
    sequences = walks(LENGTHS[count])
    model, params, batch_stats, theirs = both_models(name)
    embedder = Embedder(model, rows=ROWS, slots=SLOTS)
    on_device = embedder.put(params, batch_stats)
    theirs.eval()

    made = {}

    def ours() -> None:
        made["ours"] = embedder.embed(*on_device, sequences)

    @torch.inference_mode()
    def of_torch(sequences: list[np.ndarray] = sequences) -> None:
        outputs = []
        for walk in sequences:
            frames = torch.from_numpy(walk).float() / 255
            outputs.append(theirs(frames, [len(frames)])[0])
        made["theirs"] = torch.cat(outputs).numpy()

    ours()
    of_torch(sequences[:1])
    mine, other = take_turns(ours, of_torch, rounds, warm=True)
    error = require_equal(made["ours"], made["theirs"])
    frames = np.zeros((1, 64, 64, 44), np.uint8)
    ids = np.zeros((1, 64), np.int32)

    def embed(params, batch_stats, frames, ids):
        return model.merge(params, batch_stats)(frames, ids, num_segments=1, train=False).embeddings

    work = flops(embed, params, batch_stats, frames, ids) / 64 * sum(len(walk) for walk in sequences)
    return row(f"{name}, {count} walks", mine, other, error=error, work=work, peak=peak)


def packing_line(count: int, spacing: Spacing) -> str:
    """Describes how the walks are packed in rows."""
    packer = SequencePacker(ROWS, SLOTS, spacing=spacing)
    batches = [b["segment_ids"] for b in packer.pack(walks(LENGTHS[count]))]
    waste = np.mean(np.concatenate([ids.ravel() for ids in batches]) < 0)
    shapes = ", ".join(f"{n} × {shape}" for shape, n in Counter(ids.shape for ids in batches).items())
    begin = "anywhere" if spacing == SIDE_BY_SIDE else f"at multiples of {spacing.multiple}"
    return (
        f"{count} walks, {LENGTHS[count].sum()} frames, which begin {begin}: batches {shapes}; "
        f"{waste:.1%} of slots empty"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--walks", nargs="+", type=int, choices=LENGTHS, default=[16, 1])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    for spacing in dict.fromkeys(MODELS[name].SPACING for name in args.models):
        for count in args.walks:
            print(packing_line(count, spacing))
    peak = matmul_peak()
    print(f"{torch.get_num_threads()} cores, matmul peak {peak / 1e9:.0f} GFLOP/s")
    print(HEADER)
    for name in args.models:
        for count in args.walks:
            print(compare(name, count, args.rounds, peak), flush=True)


if __name__ == "__main__":
    main()
