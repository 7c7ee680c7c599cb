"""Sums over all axes but the last, as batch normalisation takes them, five in a layer and step.

XLA's own reduction is the right one on GPUs and TPUs. On the CPU it first writes what is summed, and its loop
over that is slow; a sum over few pixels becomes one loop with what is summed, and its error is smaller.
"""

import math

from jax import lax
from jaxtyping import Array, Float

_LARGEST_BLOCK = 22  # pixels; 32 are slower, and XLA treats more than 32 as it does the whole


def sum_per_feature(x: Float[Array, "n ... f"]) -> Float[Array, " f"]:
    """Returns the sum over all axes but the last."""
    return lax.platform_dependent(x, cpu=_in_two_steps, default=_at_once)


def _at_once(x: Array) -> Array:
    return x.sum(tuple(range(x.ndim - 1)))


def _in_two_steps(x: Array) -> Array:
    pixels = math.prod(x.shape[1:-1])
    block = max(size for size in range(1, _LARGEST_BLOCK + 1) if pixels % size == 0)
    if block == 1:
        return _at_once(x)
    sums = x.reshape(len(x), pixels // block, block, x.shape[-1]).sum(2)
    # Without the barrier XLA makes one sum of the two.
    return _at_once(lax.optimization_barrier(sums))
