"""Helpers for comparisons with PyTorch: models with equal weights, walks, and timing in turns."""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
from published import SIZES

from mcl_jax.convert.importer import import_state_dict
from mcl_jax.models.registry import Model, create_model
from mcl_jax.ops.cpu import kernels
from mcl_jax.utils.pytrees import ArrayTree
from mcl_jax.walkers import VIEWS, render_sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import torch_reference

# Every command does this at its start; without it programs take XLA's convolutions.
kernels.prepare()

_TOLERANCE = 1e-5


def both_models(name: str) -> tuple[Model, ArrayTree, ArrayTree, torch.nn.Module]:
    """Returns a model, its arrays, and PyTorch's model with the same weights and batch statistics."""
    torch.manual_seed(0)
    theirs = torch_reference.MODELS[name](**SIZES[name])
    for key, tensor in theirs.state_dict().items():
        if key.endswith("running_mean"):
            tensor.normal_(0, 0.1)
        elif key.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
    ours = create_model(name, SIZES[name], dtype="float32")
    state_dict = {key: tensor.numpy().copy() for key, tensor in theirs.state_dict().items()}
    imported = import_state_dict(state_dict, *ours.shapes(), model=name)
    return ours, imported.params, imported.batch_stats, _channels_last(theirs)


def _channels_last(module: torch.nn.Module) -> torch.nn.Module:
    """Sets PyTorch's channels-last layout, which was faster on the tested CPUs, also in 3-D."""
    for child in module.modules():
        if isinstance(child, torch.nn.Conv2d):
            child.to(memory_format=torch.channels_last)
        elif isinstance(child, torch.nn.Conv3d):
            child.to(memory_format=torch.channels_last_3d)
    return module


def walks(lengths: np.ndarray) -> list[np.ndarray]:
    """Returns silhouettes [s, 64, 44] of synthetic people, as a model gets them."""
    return [
        np.ascontiguousarray(
            render_sequence(0, i, "nm-01", VIEWS[i % len(VIEWS)], frames=int(n))[:, :, 10:54]
        )
        for i, n in enumerate(lengths)
    ]


def walk_lengths(count: int, total: int | None = None) -> np.ndarray:
    """Draws numbers of frames from 20 to 120; if a total is given, returns a draw with that sum."""
    for seed in range(100_000):
        lengths = np.random.default_rng(seed).integers(20, 121, count)
        if total is None or lengths.sum() == total:
            return lengths
    raise ValueError(f"no draw of {count} walks has {total} frames")


def require_equal(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Returns the largest difference as a share of the largest value; exits if it exceeds rounding."""
    error = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    if not error < _TOLERANCE:
        raise SystemExit(f"the outputs differ by {error:.1e}")
    return error


def take_turns(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int, *, warm: bool = False
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Times both sides in turn; returns each one's median (seconds, CPU seconds over all cores).

    Both run once before, unless they are already warm.
    """
    sides = {ours: [], theirs: []}
    for side in () if warm else sides:
        side()
    for _ in range(rounds):
        for side, taken in sides.items():
            wall, cpu = time.perf_counter(), time.process_time()
            side()
            taken.append((time.perf_counter() - wall, time.process_time() - cpu))
    mine, other = (
        tuple(statistics.median(column) for column in zip(*taken, strict=True)) for taken in sides.values()
    )
    return mine, other


def matmul_peak() -> float:
    """Returns the FLOP/s of the faster library in a large float32 matrix product."""
    n = 2048
    x = np.random.default_rng(0).standard_normal((n, n), np.float32)
    on_device, tensor = jnp.asarray(x), torch.from_numpy(x)
    product = jax.jit(lambda x: jnp.matmul(x, x, precision=jax.lax.Precision.HIGHEST))
    sides = take_turns(lambda: product(on_device).block_until_ready(), lambda: tensor @ tensor, rounds=9)
    return 2 * n**3 / min(wall for wall, _ in sides)


def flops(function: Callable[..., object], *arguments: object) -> float:
    """Returns a function's floating point operations, as XLA counts them before optimising."""
    analysis = jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",)).cost_analysis()
    return float(analysis["flops"])


HEADER = f"{'':<26}{'PyTorch s':>10}{'mcl_jax s':>10}{'ratio':>7}{'by CPU s':>9}{'of peak':>9}{'error':>9}"


def row(
    label: str,
    mine: tuple[float, float],
    other: tuple[float, float],
    *,
    error: float,
    work: float | None = None,
    peak: float = 1.0,
) -> str:
    """Returns one line under HEADER; `work` is the FLOP of plain convolutions."""
    share = "" if work is None else f"{work / mine[0] / peak:.0%}"
    return (
        f"{label:<26}{other[0]:>10.2f}{mine[0]:>10.2f}{other[0] / mine[0]:>7.2f}{other[1] / mine[1]:>9.2f}"
        f"{share:>9}{error:>9.0e}"
    )
