"""Times rank-1 and mAP of many probes against a large gallery, in mcl_jax and as in OpenGait.

    python benchmarks/scoring.py --probes 6000 --gallery 12000 --parts 16 --channels 256
    python benchmarks/scoring.py --gallery 3000 6000 12000   # time is linear in the gallery

OpenGait sums the distances of one part after another with PyTorch, sorts every row, and processes the probes
one by one in Python. Both sides take turns in one process on all its cores.
"""

import argparse
import os

import numpy as np
import torch
from side_by_side import HEADER, require_equal, row, take_turns

from mcl_jax.evaluation.distances import pairwise_distances
from mcl_jax.evaluation.metrics import average_precision, first_match_ranks

SUBJECTS = 1000
_CHECKED = 64  # number of probes whose distances are compared with float64
_NEAR_TIES = 2  # number of probes whose first match may move by one rank


class Case:
    """Embeddings and subjects of probes and gallery; both sides return (rank-1, mAP) in %."""

    def __init__(self, probes: int, gallery: int, parts: int, channels: int):
        rng = np.random.default_rng(0)
        centres = rng.standard_normal((SUBJECTS, parts, channels), np.float32)
        self.subjects = [np.arange(n) % SUBJECTS for n in (probes, gallery)]
        noise = [10 * rng.standard_normal((n, parts, channels), np.float32) for n in (probes, gallery)]
        self.x, self.y = (centres[s] + e for s, e in zip(self.subjects, noise, strict=True))
        self.match = self.subjects[0][:, None] == self.subjects[1]

    def ours(self) -> np.ndarray:
        distances = pairwise_distances(self.x, self.y)
        ranks = first_match_ranks(distances, self.match)
        precision, _ = average_precision(distances, self.match)
        return 100 * np.array([(ranks == 1).mean(), precision.mean()])

    def distances_of_torch(self, probes: int | None = None, kind: torch.dtype = torch.float32) -> np.ndarray:
        x, y = (torch.from_numpy(side).to(kind).transpose(0, 1) for side in (self.x[:probes], self.y))
        total = 0
        for a, b in zip(x, y, strict=True):
            squared = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
            total = total + squared.clamp(min=0).sqrt()
        return (total / len(x)).numpy()

    def of_torch(self) -> np.ndarray:
        order = np.argsort(self.distances_of_torch(), axis=1)
        matches = self.subjects[1][order] == self.subjects[0][:, None]
        firsts, precisions = [], []
        for found in matches.astype(np.int32):
            firsts.append(found[0])
            so_far = found.cumsum()
            precisions.append((so_far / np.arange(1, len(found) + 1) * found).sum() / found.sum())
        return 100 * np.array([np.mean(firsts), np.mean(precisions)])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--probes", type=int, default=6000)
    parser.add_argument("--gallery", type=int, nargs="+", default=[12_000])
    parser.add_argument("--parts", type=int, default=16)
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    for gallery in args.gallery:
        compare(Case(args.probes, gallery, args.parts, args.channels), args.rounds)


def compare(case: Case, rounds: int) -> None:
    """Prints both sides' figures and times."""
    probes, gallery = case.match.shape
    few = pairwise_distances(case.x[:_CHECKED], case.y)
    error = require_equal(few, case.distances_of_torch(_CHECKED, torch.float64))
    figures, theirs = case.ours(), case.of_torch()
    # Rounding decides the order of equal distances, and PyTorch's varies: in one process of ten, half of its
    # distances are off by up to 2e-5 of the largest, in the others by 4e-7.
    if np.abs(figures - theirs).max() > _NEAR_TIES * 100 / probes:
        raise SystemExit(f"the figures differ: {figures} and {theirs}")
    mine, other = take_turns(case.ours, case.of_torch, rounds, warm=True)
    print(f"rank-1 {figures[0]:.2f}, mAP {figures[1]:.2f}")
    print(HEADER)
    print(row(f"{probes} × {gallery}", mine, other, error=error))


if __name__ == "__main__":
    main()
