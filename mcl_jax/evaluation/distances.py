"""Distances between sequences, computed on the device one tile at a time.

A tile compares `TILE` sequences with `TILE` others, one part after another. So the device holds a few tiles
of embeddings and a few [TILE, TILE] matrices, independent of the number of sequences; only the host holds the
whole result [n, m]. Tiles at the edges are padded to a power of two, so that all sizes together need only a
handful of compiled programs. On a CPU, C++ kernels compute the distances (see `ops/cpu`).
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32
from numpy.typing import ArrayLike

from mcl_jax.errors import ConfigError, DataError
from mcl_jax.ops.cpu.kernels import is_ready, sum_distances

Metric = Literal["euc", "cos"]
TILE = 2048
SMALLEST_TILE = 64
NORM_EPS = 1e-12
_OVERFLOW = "embeddings: a distance overflows float32: scale the embeddings down or retrain"


def distances(x: ArrayLike, y: ArrayLike, *, metric: str = "euc") -> Any:
    """Returns distances between embeddings: one to one, one to many, or many to many.

    Args:
        x: one embedding [parts, channels], or several [n, parts, channels]; float32.
        y: likewise.
        metric: "euc", the mean over parts of the Euclidean distance; or "cos", 1 − the mean cosine.

    Returns:
        float32 [n, m], from every embedding of x to every one of y. A single embedding has no dimension in
        the result: `distances(x[0], x[1])` is a number, and `distances(x[0], x)` is [n].

    Raises:
        ConfigError: if the metric is unknown.
        DataError: if the shapes do not fit one model, a distance overflows float32, or embeddings are so
            small that distances become 0.
    """
    sides = [np.asarray(side, np.float32) for side in (x, y)]
    if any(side.ndim not in (2, 3) for side in sides) or sides[0].shape[-2:] != sides[1].shape[-2:]:
        raise DataError(
            f"distances: shapes {list(sides[0].shape)} and {list(sides[1].shape)}; expected "
            "[parts, channels] or [n, parts, channels], with the same parts and channels in both"
        )
    several = [side if side.ndim == 3 else side[None] for side in sides]
    between = pairwise_distances(*several, metric=metric)
    single = tuple(axis for axis, side in enumerate(sides) if side.ndim == 2)
    return between.squeeze(axis=single)[()]


def part_distances(x: np.ndarray, y: np.ndarray, *, metric: str = "euc") -> np.ndarray:
    """Returns the distance of each part of two embeddings; their mean is the distance of the two.

    Args:
        x: one embedding [parts, channels].
        y: the other.
        metric: "euc", or "cos" for 1 − the cosine.

    Returns:
        float64 [parts].

    Raises:
        ConfigError: if the metric is unknown.
    """
    _check_metric(metric)
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if metric == "euc":
        return np.linalg.norm(x - y, axis=1)
    lengths = [np.maximum(np.linalg.norm(side, axis=1), NORM_EPS) for side in (x, y)]
    return 1 - (x * y).sum(axis=1) / (lengths[0] * lengths[1])


def _check_metric(metric: str) -> None:
    if metric not in get_args(Metric):
        raise ConfigError(f"metric: {metric!r} is unknown: choose one of {', '.join(get_args(Metric))}")


def pairwise_distances(
    x: Float32[np.ndarray, "n p c"], y: Float32[np.ndarray, "m p c"], *, metric: str = "euc", tile: int = TILE
) -> Float32[np.ndarray, "n m"]:
    """Returns the distance of every sequence of x to every sequence of y.

    Args:
        x: embeddings [n, parts, channels].
        y: embeddings [m, parts, channels].
        metric: "euc", the mean over parts of the Euclidean distance; or "cos", 1 − the mean cosine.
        tile: maximum number of sequences of each side on the device at once; does not change the result.

    Raises:
        ConfigError: if the metric is unknown or the tile is below 1.
        DataError: if a distance overflows float32, or embeddings are so small that distances become 0.
    """
    _check_metric(metric)
    if tile < 1:
        raise ConfigError(f"tile: {tile} sequences cannot be compared: give 1 or more")
    check_norms(x)
    check_norms(y)
    result = np.empty((len(x), len(y)), np.float32)
    pending: tuple[slice, slice, Array] | None = None
    for rows in _tiles(len(x), tile):
        x_tile = jax.device_put(_padded(x[rows], tile))
        for columns in _tiles(len(y), tile):
            distances = _tile_distances(x_tile, _padded(y[columns], tile), metric=metric)
            # One tile late, so that the host copies a result while the device computes the next.
            _store(result, pending)
            pending = rows, columns, distances
    _store(result, pending)
    if not np.isfinite(result).all():
        raise DataError(_OVERFLOW)
    return result


def check_norms(x: np.ndarray) -> None:
    """Refuses embeddings whose squares overflow or vanish in float32: distances could be finite but wrong."""
    with np.errstate(over="ignore", under="ignore"):
        squared = np.einsum("npc,npc->np", x, x)
    if not np.isfinite(squared).all():
        raise DataError(_OVERFLOW)
    tiny = squared < np.finfo(np.float32).tiny
    if tiny.any() and x[tiny].any():
        raise DataError(
            "embeddings: too small, so that distances vanish in float32: scale the embeddings up or retrain"
        )


@partial(jax.jit, static_argnames="metric")
def _tile_distances(
    x: Float[Array, "n p c"], y: Float[Array, "m p c"], *, metric: str
) -> Float[Array, "n m"]:
    if metric == "cos":
        x, y = _normalised(x), _normalised(y)

    if x.dtype == y.dtype == jnp.float32 and x.size > 0 and is_ready():
        total = sum_distances(x, y, euclidean=metric == "euc")
    else:
        total = _sum_by_parts(x, y, metric)
    mean = total / x.shape[1]
    return 1 - mean if metric == "cos" else mean


def _sum_by_parts(x: Float[Array, "n p c"], y: Float[Array, "m p c"], metric: str) -> Float[Array, "n m"]:
    """Returns the sum over parts of Euclidean distances, or of inner products."""

    def add_part(total: Array, xy: tuple[Array, Array]) -> tuple[Array, None]:
        x_part, y_part = xy
        # HIGHEST, because GPUs and TPUs would otherwise round the factors to 10 or 8 bits.
        inner = jnp.matmul(x_part, y_part, precision=jax.lax.Precision.HIGHEST)
        if metric == "cos":
            return total + inner, None
        squared = jnp.sum(x_part**2, 1)[:, None] + jnp.sum(y_part**2, 0)[None, :] - 2 * inner
        # relu, because rounding can leave the difference of two equal embeddings below zero.
        return total + jnp.sqrt(jax.nn.relu(squared)), None

    # y is transposed once, here, because XLA's products on the CPU are slower with a transposed factor.
    parts = jnp.moveaxis(x, 1, 0), jnp.moveaxis(y, 0, 2)
    # A scan, because all parts at once would be an n × m × p array.
    total, _ = jax.lax.scan(add_part, jnp.zeros((len(x), len(y)), jnp.float32), parts)
    return total


def _normalised(x: Float[Array, "n p c"]) -> Float[Array, "n p c"]:
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), NORM_EPS)


def _tiles(n: int, tile: int) -> Iterator[slice]:
    """Cuts n sequences into whole tiles, and half tiles once at most three quarters of a tile remain."""
    start = 0
    while start < n:
        left = n - start
        size = tile if left > 3 * tile // 4 else max(tile // 2, 1)
        yield slice(start, min(start + size, n))
        start += size


def _padded(x: np.ndarray, tile: int) -> np.ndarray:
    """Adds zero sequences up to a power of two within [SMALLEST_TILE, tile], so that few shapes compile."""
    size = min(tile, max(SMALLEST_TILE, 1 << (len(x) - 1).bit_length()))
    return x if len(x) == size else np.pad(x, ((0, size - len(x)), (0, 0), (0, 0)))


def _store(result: np.ndarray, tile: tuple[slice, slice, Array] | None) -> None:
    if tile is not None:
        rows, columns, distances = tile
        block = result[rows, columns]
        block[:] = np.asarray(distances)[: block.shape[0], : block.shape[1]]
