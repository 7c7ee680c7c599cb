"""Maxima over small squares of a picture, of equal ones the first, which gets the gradient as in PyTorch.

Written without `reduce_window`, which is slow on the CPU, above all in its gradient.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def max_pool_2x2(x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    """Takes the maximum of each 2×2 square."""
    n, height, width, channels = x.shape
    squares = x.reshape(n, height // 2, 2, width // 2, 2, channels)
    rows = _first_maximum(squares[:, :, :, :, 0], squares[:, :, :, :, 1])
    return _first_maximum(rows[:, :, 0], rows[:, :, 1])


def max_pool_3x3(x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
    """Takes the maximum of the 3×3 square around every second row and column, as ResNets do (stride 2)."""
    return _max_of_three(_max_of_three(x, axis=2), axis=1)


def _max_of_three(x: Array, axis: int) -> Array:
    even = lax.slice_in_dim(x, 0, None, 2, axis)
    odd = lax.slice_in_dim(x, 1, None, 2, axis)
    count = even.shape[axis]
    # At an edge, where one of the three is missing, the middle one stands for it.
    first = lax.slice_in_dim(even, 0, 1, 1, axis)
    before = lax.concatenate([first, lax.slice_in_dim(odd, 0, count - 1, 1, axis)], axis)
    last = lax.slice_in_dim(even, count - 1, count, 1, axis)
    after = odd if odd.shape[axis] == count else lax.concatenate([odd, last], axis)
    return _first_maximum(_first_maximum(before, even), after)


def _first_maximum(a: Float[Array, "..."], b: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.where(a >= b, a, b)
