"""Sums over all axes but the last, for batch normalisation: four in a layer and step.

XLA's own reduction is the right one on GPUs and TPUs, where reading is what a sum costs. On the CPU it first
writes what is summed, and its loop over that is slow; a sum over few pixels becomes one loop with what is
summed, and its error is smaller.
"""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_LARGEST_BLOCK = 22  # pixels; 32 are slower, and XLA treats more than 32 as it does the whole


def sum_per_feature(x: Float[Array, "n ... f"]) -> Float[Array, " f"]:
    """Returns the sum over all axes but the last."""
    return lax.platform_dependent(x, cpu=_in_two_steps, default=_at_once)


def mean_and_variance(
    x: Float[Array, "n ... f"],
    weight: Float[Array, "n ..."],
    count: Float[Array, ""],
    guess: Float[Array, " f"],
) -> tuple[Float[Array, " f"], Float[Array, " f"]]:
    """Returns the mean over all axes but the last, and the biased variance.

    Args:
        x: [n, ..., f].
        weight: [n, 1, ...], 0 where x is empty and 1 elsewhere.
        count: how many numbers of a feature are not empty, at least 1.
        guess: of the mean. E[x²] − E[x]² cancels where the mean is many deviations off 0, so on GPUs and TPUs
            x is read once, relative to this. The variance is off by a float's error times 1 + (mean −
            guess)² / variance. The CPU reads x twice, and has no need of it.
    """
    return lax.platform_dependent(x, weight, count, guess, cpu=_in_two_reads, default=_in_one_read)


def _in_one_read(x: Array, weight: Array, count: Array, guess: Array) -> tuple[Array, Array]:
    apart = x - guess
    # Neither sum needs the other, so XLA can make one kernel of them, and one exchange between devices.
    first, second = _at_once(apart * weight) / count, _at_once(jnp.square(apart) * weight) / count
    return guess + first, jnp.maximum(second - jnp.square(first), 0)


def _in_two_reads(x: Array, weight: Array, count: Array, _: Array) -> tuple[Array, Array]:
    mean = _in_two_steps(x * weight) / count
    return mean, _in_two_steps(jnp.square(x - mean) * weight) / count


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
