"""Initial values of the parameters, drawn as in the reference."""

import math

import jax
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

conv_init = nnx.initializers.xavier_uniform()
part_conv_init = nnx.initializers.xavier_uniform(batch_axis=0)  # [parts, *extent, in, out]


def batch_norm_scale_init(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> Float[Array, "..."]:
    """Draws from the normal distribution N(1, 0.02)."""
    return 1 + 0.02 * jax.random.normal(key, shape, dtype)


def part_matrix_init(key: jax.Array, shape: tuple[int, int, int], dtype: DTypeLike) -> Float[Array, "p i o"]:
    """Draws a [parts, in, out] matrix uniformly from ±√(6 / ((in + parts) · out)).

    This is Xavier's rule as PyTorch applies it to a 3-D tensor, where it takes the parts as outputs.
    """
    parts, features_in, features_out = shape
    bound = math.sqrt(6 / ((features_in + parts) * features_out))
    return jax.random.uniform(key, shape, dtype, -bound, bound)
