"""Times the MCL and its gradient in mcl_jax, and in PyTorch with all triplets at once, as in OpenGait.

    python benchmarks/losses.py --sequences 512 --per-subject 16 --parts 62 --channels 256

PyTorch gathers each anchor's distances to positives and negatives, and stores an array [parts, anchors,
positives, negatives]; every subject has equally many sequences in a batch. Memory is the growth of the
process's peak, measured for each side in a separate process.
"""

import argparse
import multiprocessing
import os
import resource

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from side_by_side import HEADER, require_equal, row, take_turns

from mcl_jax.losses import mcl_loss

MARGIN, GAMMA = 0.2, 0.6


class Case:
    """Embeddings, and both sides as functions without arguments that return (loss, gradient)."""

    def __init__(self, sequences: int, per_subject: int, parts: int, channels: int):
        rng = np.random.default_rng(0)
        self.x = rng.standard_normal((sequences, parts, channels), np.float32)
        self.labels = np.repeat(np.arange(sequences // per_subject), per_subject)
        self._ours = jax.jit(jax.value_and_grad(lambda x, labels: mcl_loss(x, labels, MARGIN, GAMMA)[0]))

    def ours(self):
        loss, gradient = self._ours(self.x, jnp.asarray(self.labels))
        return float(loss), np.asarray(gradient)

    def of_torch(self):
        x = torch.from_numpy(self.x).requires_grad_()
        labels = torch.from_numpy(self.labels)
        rows = x.transpose(0, 1)
        squared = (rows**2).sum(2)
        d = F.relu(squared[:, :, None] + squared[:, None, :] - 2 * rows @ rows.transpose(1, 2))
        d = d.masked_fill(torch.eye(len(labels), dtype=torch.bool), 0.0).sqrt()
        d = d**GAMMA * d
        parts, n, _ = d.shape
        same = labels[:, None] == labels[None, :]
        to_positive = d[:, same].view(parts, n, -1, 1)
        to_negative = d[:, ~same].view(parts, n, 1, -1)
        terms = F.relu(to_positive - to_negative + MARGIN).view(parts, -1)
        loss = (terms.sum(1) / (terms != 0).sum(1).clamp(min=1)).mean()
        loss.backward()
        return loss.item(), x.grad.numpy()


def peak_growth(side: str, sizes: tuple[int, ...]) -> float:
    """Returns by how many bytes one call raises a process's peak memory, with everything loaded."""
    getattr(Case(8, 4, 2, 8), side)()
    case = Case(*sizes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    getattr(case, side)()
    return 1024.0 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sequences", type=int, default=512)
    parser.add_argument("--per-subject", type=int, default=16)
    parser.add_argument("--parts", type=int, default=62)
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    sizes = args.sequences, args.per_subject, args.parts, args.channels
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        ours, of_torch = (pool.apply(peak_growth, (side, sizes)) for side in ("ours", "of_torch"))
    case = Case(*sizes)
    (loss, gradient), (expected, expected_gradient) = case.ours(), case.of_torch()
    require_equal(np.array(loss), np.array(expected))
    # A term near zero may count on one side only, so single entries may differ by more than rounding.
    error = np.linalg.norm(gradient - expected_gradient) / np.linalg.norm(expected_gradient)
    if error > 1e-2:
        raise SystemExit(f"the gradients differ by {error:.1e}")
    mine, other = take_turns(case.ours, case.of_torch, args.rounds)
    print(HEADER)
    print(row(f"MCL, n {args.sequences}, p {args.parts}", mine, other, error=error))
    ratio = of_torch / ours
    print(f"memory: PyTorch {of_torch / 1e9:.2f} GB, mcl_jax {ours / 1e9:.2f} GB, ratio {ratio:.1f}")


if __name__ == "__main__":
    main()
