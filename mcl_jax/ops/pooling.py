"""Max pooling: over small squares of an image, and over the frames of each sequence of a row.

In a square ties go to the first element, as in PyTorch. Over frames, ties share the gradient evenly.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

# Up to this many sequences in a row, one maximum per sequence reads less than a scan over the slots.
_MAXIMA_AT_ONCE = 8


def max_pool_2x2(x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    """Takes the maximum of each 2×2 square."""
    n, height, width, channels = x.shape
    squares = x.reshape(n, height // 2, 2, width // 2, 2, channels)
    rows = first_maximum(squares[:, :, :, :, 0], squares[:, :, :, :, 1])
    return first_maximum(rows[:, :, 0], rows[:, :, 1])


def max_pool_3x3(x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    """Takes the maximum of the 3×3 square around every second row and column, as ResNets do (stride 2)."""
    return _max_of_three(_max_of_three(x, axis=2), axis=1)


def _max_of_three(x: Array, axis: int) -> Array:
    even = lax.slice_in_dim(x, 0, None, 2, axis)
    odd = lax.slice_in_dim(x, 1, None, 2, axis)
    count = even.shape[axis]
    # At an edge one of the three is missing; the middle one replaces it.
    first = lax.slice_in_dim(even, 0, 1, 1, axis)
    before = lax.concatenate([first, lax.slice_in_dim(odd, 0, count - 1, 1, axis)], axis)
    last = lax.slice_in_dim(even, count - 1, count, 1, axis)
    after = odd if odd.shape[axis] == count else lax.concatenate([odd, last], axis)
    return first_maximum(first_maximum(before, even), after)


def first_maximum(a: Float[Array, "..."], b: Float[Array, "..."]) -> Float[Array, "..."]:
    """Takes the larger of two numbers; of equal ones, the first gets the gradient, as in PyTorch."""
    return jnp.where(a >= b, a, b)


def segment_max(
    x: Float[Array, "r s ..."], segment_ids: Int[Array, "r s"], num_segments: int
) -> Float[Array, "r k ..."]:
    """Takes the maximum over the slots of each segment of each row; −∞ for an absent segment.

    A scatter is fastest on a CPU. On a GPU it needs an atomic operation for each element, and so does its
    gradient. There each segment gets an ordinary maximum or, if rows hold many segments, one scan finds all.

    Args:
        x: [rows, slots, ...].
        segment_ids: [rows, slots], the segment of each slot, −1 if empty; slots of a segment are contiguous.
        num_segments: number of segments in a row at most.
    """
    on_cpu = functools.partial(_by_scatter, num_segments=num_segments)
    way = _one_by_one if num_segments <= _MAXIMA_AT_ONCE else _by_scan
    default = functools.partial(way, num_segments=num_segments)
    return lax.platform_dependent(x, segment_ids, cpu=on_cpu, default=default)


def _masked_max(x: Float[Array, "r s ..."], mask: Bool[Array, "r s"]) -> Float[Array, "r ..."]:
    return jnp.where(_beside(mask, x), x, -jnp.inf).max(axis=1)


def _beside(by_slot: Array, x: Array) -> Array:
    """Returns an array [r, s] with as many dimensions as x [r, s, ...]."""
    return by_slot.reshape(*by_slot.shape, *(1,) * (x.ndim - 2))


def _one_by_one(x: Array, segment_ids: Array, *, num_segments: int) -> Array:
    return jnp.stack([_masked_max(x, segment_ids == k) for k in range(num_segments)], axis=1)


def _by_scan(x: Array, segment_ids: Array, *, num_segments: int) -> Array:
    """Finds the maximum up to each slot of its segment; the last slot has the segment's maximum."""

    def join(before: tuple[Array, Array], here: tuple[Array, Array]) -> tuple[Array, Array]:
        same = _beside(before[0] == here[0], x)
        return here[0], jnp.where(same, jnp.maximum(before[1], here[1]), here[1])

    _, up_to_here = lax.associative_scan(join, (segment_ids, x), axis=1)
    member = segment_ids[:, :, None] == jnp.arange(num_segments)
    last = x.shape[1] - 1 - jnp.argmax(member[:, ::-1], axis=1)  # [r, k]
    pooled = jnp.take_along_axis(up_to_here, _beside(last, x), axis=1)
    return jnp.where(_beside(member.any(axis=1), x), pooled, -jnp.inf)


def _by_scatter(x: Array, segment_ids: Array, *, num_segments: int) -> Array:
    # Empty slots go to an extra segment, which is dropped.
    buckets = jnp.where(segment_ids < 0, num_segments, segment_ids)

    def of_row(row: Array, ids: Array) -> Array:
        return jax.ops.segment_max(row, ids, num_segments=num_segments + 1)[:num_segments]

    return jax.vmap(of_row)(x, buckets)
