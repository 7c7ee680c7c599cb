"""Sums over all axes but the last, for batch normalisation, which needs four per layer and step.

On GPUs and TPUs, XLA's own reduction is best, because the cost of a sum is reading. On the CPU, XLA first
writes the terms and then loops over them slowly. A sum over few pixels is fused with the computation of its
terms, and its rounding error is smaller.
"""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_LARGEST_BLOCK = 22  # pixels; 32 are slower, and above 32 XLA does not fuse


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
        count: number of non-empty values per feature, at least 1.
        guess: an estimate of the mean. E[x²] − E[x]² loses digits if the mean is many deviations off 0, so on
            GPUs and TPUs x is read once, relative to this. The variance is off by a float's error times 1 +
            (mean − guess)² / variance. The CPU reads x twice and does not need it.
    """
    return lax.platform_dependent(x, weight, count, guess, cpu=_in_two_reads, default=_in_one_read)


def _in_one_read(x: Array, weight: Array, count: Array, guess: Array) -> tuple[Array, Array]:
    apart = x - guess
    # The sums are independent, so XLA can merge them into one kernel and one exchange between devices.
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
    # Without the barrier XLA merges the two sums.
    return _at_once(lax.optimization_barrier(sums))
