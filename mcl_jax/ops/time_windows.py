"""Sliding windows over the slots of packed rows that end at the border of each sequence.

A slot's neighbour counts only if it belongs to the same sequence. Each window is made of a few shifted copies
of its input, which the compiler fuses with the following operations. There is no gather and no loop, and the
gradient is a shift back.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from mcl_jax.ops.pooling import first_maximum


def neighbours(
    x: Float[Array, "r s ..."], segment_ids: Int[Array, "r s"] | None, offsets: Sequence[int], fill: float
) -> list[Float[Array, "r s ..."]]:
    """Returns for each offset the values that many slots later; `fill` beyond the sequence's borders.

    Args:
        x: [rows, slots, ...].
        segment_ids: [rows, slots], the sequence of each slot, −1 at empty slots; None if each row is one
            sequence without empty slots.
        offsets: in slots; negative ones are before.
        fill: padding beyond the borders. Values at empty slots are meaningless.
    """
    reach, slots = max(map(abs, offsets)), x.shape[1]
    rest = ((0, 0),) * (x.ndim - 2)
    wide = jnp.pad(x, ((0, 0), (reach, reach), *rest), constant_values=fill)

    def shift(x: Array, offset: int) -> Array:
        return lax.slice_in_dim(x, reach + offset, reach + offset + slots, axis=1)

    shifted = [shift(wide, offset) for offset in offsets]
    if segment_ids is None:
        return shifted
    wide_ids = jnp.pad(segment_ids, ((0, 0), (reach, reach)), constant_values=-1)
    same = [shift(wide_ids, offset) == segment_ids for offset in offsets]
    axes = (..., *(None,) * len(rest))
    return [jnp.where(here[axes], y, fill) for here, y in zip(same, shifted, strict=True)]


def window_mean(
    x: Float[Array, "r s ..."], segment_ids: Int[Array, "r s"] | None, size: int
) -> Float[Array, "r s ..."]:
    """Averages over `size` slots around each slot; zeros beyond the borders count."""
    first, *rest = neighbours(x, segment_ids, _around(size), 0.0)
    return sum(rest, start=first) / size


def window_max(
    x: Float[Array, "r s ..."], segment_ids: Int[Array, "r s"] | None, size: int
) -> Float[Array, "r s ..."]:
    """Takes the maximum over `size` slots around each slot, within the borders of its sequence."""
    first, *rest = neighbours(x, segment_ids, _around(size), -jnp.inf)
    for later in rest:
        first = first_maximum(first, later)
    return first


def window_joined(
    x: Float[Array, "r s ... c"], segment_ids: Int[Array, "r s"] | None, size: int
) -> Float[Array, "r s ... size*c"]:
    """Joins the channels of `size` slots around each slot, with zeros beyond the borders.

    Multiplied by the kernel [size · c, d] of a convolution over slots, it gives that convolution.
    """
    return jnp.concatenate(neighbours(x, segment_ids, _around(size), 0.0), axis=-1)


def _around(size: int) -> range:
    return range(-(size // 2), size // 2 + 1)
