"""A training step (forward, losses, backward, SGD) of the published models in float32, ours beside PyTorch.

    python benchmarks/train_step.py --models gaitset gaitbase deepgaitv2 --lengths fixed drawn

"fixed" is 8 sequences of 30 frames, "drawn" 8 of 10 to 50, which are packed into rows on our side and lie end
to end on PyTorch's. Both sides take turns in one process on all its cores; give the machine nothing else to
do.
"""

import argparse
import os

import jax
import numpy as np
import torch
from published import SIZES
from side_by_side import HEADER, both_models, flops, matmul_peak, row, take_turns, walks
from torch_reference import Optimizer, Recipe, TorchTrainer

from mcl_jax.data.feed.packing import EMPTY, place, train_row_shape
from mcl_jax.losses.total import complete_losses
from mcl_jax.optim import OPTIMIZERS, multi_step
from mcl_jax.runtime import compiler_options
from mcl_jax.train_state import create_state
from mcl_jax.train_step import make_train_step

LABELS = np.repeat(np.arange(4), 2)
BOUNDS = {"fixed": (30, 30), "drawn": (10, 50)}
"""Kind → fewest and most frames of a sequence."""
MCL = {"margin": 0.6, "gamma": 0.6}
LR, MILESTONES = 1e-3, (1000,)


def clips(kind: str) -> list[np.ndarray]:
    """Eight sequences [s, 64, 44]."""
    fewest, most = BOUNDS[kind]
    return walks(np.random.default_rng(0).integers(fewest, most + 1, len(LABELS)))


def packed(sequences: list[np.ndarray], kind: str) -> dict[str, np.ndarray]:
    """The batch that a loader would make of the sequences."""
    lengths = np.array([len(clip) for clip in sequences])
    shape = train_row_shape(len(sequences), *BOUNDS[kind])
    placement = place(lengths, shape)
    batch = {
        "frames": np.zeros((shape.rows, shape.slots, *sequences[0].shape[1:]), np.uint8),
        "segment_ids": np.full((shape.rows, shape.slots), EMPTY, np.int32),
        "labels": np.full((shape.rows, shape.segments), EMPTY, np.int32),
    }
    for i, clip in enumerate(sequences):
        line, segment, start = placement.row[i], placement.segment[i], placement.start[i]
        batch["frames"][line, start : start + len(clip)] = clip
        batch["segment_ids"][line, start : start + len(clip)] = segment
        batch["labels"][line, segment] = LABELS[i]
    return batch


def compare(name: str, kind: str, rounds: int, peak: float) -> str:
    """The line of one model and kind of lengths."""
    sequences = clips(kind)
    model, params, batch_stats, theirs = both_models(name)
    classifies = name != "gaitset"
    losses = {"mcl": {"weight": 1.0, **MCL}} | ({"cross_entropy": {"weight": 1.0}} if classifies else {})
    optimizer = OPTIMIZERS["sgd"](multi_step(LR, milestones=MILESTONES), momentum=0.9, weight_decay=5e-4)
    update = make_train_step(model, optimizer, complete_losses(losses))
    step = jax.jit(update, donate_argnums=0, compiler_options=compiler_options())
    batch = packed(sequences, kind)
    state = create_state(params, batch_stats, optimizer)
    work = flops(update, jax.eval_shape(lambda: state), batch)

    recipe = Recipe(**MCL, ce_weight=1.0 if classifies else None)
    trainer = TorchTrainer(theirs, recipe, Optimizer("sgd", lr=LR, milestones=MILESTONES))
    frames = torch.from_numpy(np.concatenate(sequences))
    lengths, labels = [len(clip) for clip in sequences], torch.from_numpy(LABELS)

    def ours() -> float:
        nonlocal state
        state, metrics = step(state, batch)
        return float(metrics["loss"])

    def of_torch() -> float:
        return trainer.step(frames.float() / 255, lengths, labels)[2]

    # The second loss has gone through gradients and optimiser.
    losses_of_both = np.array([[ours(), of_torch()] for _ in range(2)])
    error = float(np.abs(losses_of_both[:, 0] / losses_of_both[:, 1] - 1).max())
    if not error < 1e-3:
        raise SystemExit(f"the losses differ by {error:.1e}")
    mine, other = take_turns(ours, of_torch, rounds)
    return row(f"{name}, {kind}", mine, other, error=error, work=work, peak=peak)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--lengths", nargs="+", choices=BOUNDS, default=list(BOUNDS))
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    peak = matmul_peak()
    print(f"{torch.get_num_threads()} cores, matmul peak {peak / 1e9:.0f} GFLOP/s")
    print(HEADER)
    for name in args.models:
        for kind in args.lengths:
            print(compare(name, kind, args.rounds, peak), flush=True)


if __name__ == "__main__":
    main()
