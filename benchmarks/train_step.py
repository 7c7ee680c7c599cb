"""Times a training step (forward, losses, backward, SGD) of the published models beside PyTorch, in float32.

    python benchmarks/train_step.py --models gaitset gaitpart gaitgl gaitbase swingait --lengths fixed drawn

"fixed" is 8 sequences of 30 frames, "drawn" a typical draw of 8 with 10 to 50 frames. mcl_jax packs these
into rows. PyTorch gets them concatenated; where it convolves or attends over time, drawn ones go one by one.
Both sides take turns in one process on all its cores; run nothing else on the machine. Before timing, the
first updates are compared: loss, gradient of every parameter ("error" is the worst) and batch statistics.
"""

import argparse
import os

import jax
import numpy as np
import optax
import torch
from published import SIZES
from side_by_side import HEADER, both_models, flops, matmul_peak, row, take_turns, walks
from torch_reference import Optimizer, Recipe, TorchTrainer

from mcl_jax.convert.importer import export_state_dict
from mcl_jax.data.feed.packing import EMPTY, place, train_row_shapes
from mcl_jax.losses.total import complete_losses
from mcl_jax.models import MODELS
from mcl_jax.runtime.settings import compiler_options
from mcl_jax.training.optimizers import OPTIMIZERS, multi_step
from mcl_jax.training.state import TrainState, create_state
from mcl_jax.training.step import make_train_step
from mcl_jax.utils.pytrees import ArrayTree
from mcl_jax.utils.spacing import Spacing

LABELS = np.repeat(np.arange(4), 2)
BOUNDS = {"fixed": (30, 30), "drawn": (10, 50)}
"""Kind → least and largest number of frames of a sequence."""
MCL = {"margin": 0.6, "gamma": 0.6}
LR, MILESTONES, DECAY = 1e-3, (1000,), 5e-4
NO_GRADIENT = {"transformer.norm.bias"}  # SwinGait's is zero but for rounding
# PyTorch's float32 is off from its float64 by 1e-7 in loss and 4e-3 in gradients (GaitBase, 8 × 4 frames),
# and more in deeper models; a gradient of another model is off by about 1.
TOLERANCES = {"loss": 1e-5, "gradients": 1e-1, "batch statistics": 1e-4}


def clips(kind: str) -> list[np.ndarray]:
    """Eight sequences [s, 64, 44] of silhouettes under grey noise.

    Equal pixels would give equal maxima, and rounding would decide which one gets the gradient. Then
    GaitBase's gradient is off by 5 %, even between PyTorch's float32 and its own float64.
    """
    fewest, most = BOUNDS[kind]
    rng = np.random.default_rng(3)  # drawn: 229 frames; the average draw has 240
    silhouettes = walks(rng.integers(fewest, most + 1, len(LABELS)))
    return [clip // 2 + rng.integers(0, 128, clip.shape, np.uint8) for clip in silhouettes]


def packed(sequences: list[np.ndarray], kind: str, sizes: int, spacing: Spacing) -> dict[str, np.ndarray]:
    """Returns the batch that a loader with `train.row_sizes` makes of the sequences."""
    lengths = np.array([len(clip) for clip in sequences])
    shapes = train_row_shapes(len(sequences), *BOUNDS[kind], sizes, spacing)
    shape = next(shape for shape in shapes if place(lengths, shape, spacing))
    placement = place(lengths, shape, spacing)
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


def require_same_update(
    name: str, before: ArrayTree, state: TrainState, theirs: torch.nn.Module, losses: tuple[float, float]
) -> float:
    """Returns the largest error of a gradient, relative to its norm; exits if an error exceeds rounding.

    Args:
        name: of the model.
        before: parameters of mcl_jax before the first update.
        state: state of mcl_jax after it; its momentum is the gradient plus the decay.
        theirs: PyTorch's model after it.
        losses: loss of mcl_jax and of PyTorch.
    """
    momentum = optax.tree.get(state.opt_state, "trace")
    gradients = jax.tree.map(lambda total, x: np.asarray(total) - DECAY * x, momentum, before)
    ours = export_state_dict(gradients, state.batch_stats, model=name, steps=1)

    def worst(expected: dict[str, torch.Tensor]) -> float:
        pairs = [(ours[key], value.numpy()) for key, value in expected.items()]
        return max((float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs), default=0.0)

    errors = {
        "loss": abs(losses[0] / losses[1] - 1),
        "gradients": worst({k: x.grad for k, x in theirs.named_parameters() if k not in NO_GRADIENT}),
        "batch statistics": worst(
            {k: x for k, x in theirs.named_buffers() if x.ndim and x.is_floating_point()}
        ),
    }
    for what, error in errors.items():
        if not error < TOLERANCES[what]:
            raise SystemExit(f"{name}, {what}: the first updates differ by {error:.1e}")
    return errors["gradients"]


def compare(name: str, kind: str, sizes: int, rounds: int, peak: float) -> str:
    """Returns the line for one model and kind of lengths."""
    sequences = clips(kind)
    model, params, batch_stats, theirs = both_models(name)
    classifies = MODELS[name].CLASSIFIER is not None
    losses = {"mcl": {"weight": 1.0, **MCL}} | ({"cross_entropy": {"weight": 1.0}} if classifies else {})
    optimizer = OPTIMIZERS["sgd"](multi_step(LR, milestones=MILESTONES), momentum=0.9, weight_decay=DECAY)
    update = make_train_step(model, optimizer, complete_losses(losses))
    step = jax.jit(update, donate_argnums=0, compiler_options=compiler_options(training=True))
    batch, before = packed(sequences, kind, sizes, model.spacing), jax.device_get(params)
    state = create_state(params, batch_stats, optimizer)
    work = flops(update, jax.eval_shape(lambda: state), batch)

    recipe = Recipe(**MCL, ce_weight=1.0 if classifies else None)
    trainer = TorchTrainer(theirs, recipe, Optimizer("sgd", lr=LR, weight_decay=DECAY, milestones=MILESTONES))
    frames = torch.from_numpy(np.concatenate(sequences))
    lengths, labels = [len(clip) for clip in sequences], torch.from_numpy(LABELS)

    def ours() -> float:
        nonlocal state
        state, metrics = step(state, batch)
        return float(metrics["loss"])

    def of_torch() -> float:
        return trainer.step(frames.float() / 255, lengths, labels)[2]

    losses_of_both = ours(), of_torch()
    error = require_same_update(name, before, state, theirs, losses_of_both)
    mine, other = take_turns(ours, of_torch, rounds, warm=True)
    label = f"{name}, {kind} {len(frames)}/{batch['segment_ids'].size}"
    return row(label, mine, other, error=error, work=work, peak=peak)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--lengths", nargs="+", choices=BOUNDS, default=list(BOUNDS))
    parser.add_argument("--row-sizes", type=int, default=5, help="as train.row_sizes")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    peak = matmul_peak()
    print(f"{torch.get_num_threads()} cores, matmul peak {peak / 1e9:.0f} GFLOP/s")
    print(HEADER)
    for name in args.models:
        for kind in args.lengths:
            print(compare(name, kind, args.row_sizes, args.rounds, peak), flush=True)


if __name__ == "__main__":
    main()
