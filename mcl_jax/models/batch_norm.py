"""Batch normalisation with PyTorch's running statistics, ignoring empty slots."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float

from mcl_jax.models.initializers import batch_norm_scale_init
from mcl_jax.ops.batch_statistics import mean_and_variance, sum_per_feature

BATCH_NORM_EPSILON = 1e-5
BATCH_NORM_MOMENTUM = 0.1  # PyTorch's sense: the share of the new statistics.


class BatchNorm(nnx.Module):
    """Batch normalisation over all axes but the last, with PyTorch's running statistics.

    Empty slots are left out of the statistics. Under a sharded `jax.jit` the statistics are those of the
    global batch. Unlike `nnx.BatchNorm`, the running variance is the unbiased one, as in PyTorch.
    """

    frozen: bool = False  # see `GaitModule`

    def __init__(self, features: int, *, rngs: nnx.Rngs):
        self.scale = nnx.Param(batch_norm_scale_init(rngs.params(), (features,), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(features, jnp.float32))
        self.mean = nnx.BatchStat(jnp.zeros(features, jnp.float32))
        self.var = nnx.BatchStat(jnp.ones(features, jnp.float32))

    def __call__(
        self, x: Float[Array, "n ..."], *, train: bool, mask: Bool[Array, " n"] | None = None
    ) -> Float[Array, "n ..."]:
        """Normalises x.

        Args:
            x: [n, ..., features].
            train: whether to use and record the statistics of this batch, unless they are frozen.
            mask: [n], False where x is empty; None if nothing is empty.

        Returns:
            An array of the shape and type of x.
        """
        if train and not self.frozen:
            weight = jnp.ones(len(x), bool) if mask is None else mask
            y, mean, var = _normalize(x, weight, self.scale[...], self.bias[...], self.mean[...])
            self._record_statistics(mean, var, _count(x, weight, var.dtype))
            return y
        factor, shift = self.in_test()
        return (x * factor + shift).astype(x.dtype)

    def in_test(self) -> tuple[Float[Array, " f"], Float[Array, " f"]]:
        """Returns batch normalisation for testing as a factor and a shift."""
        factor = self.scale[...] * lax.rsqrt(self.var[...] + BATCH_NORM_EPSILON)
        return factor, self.bias[...] - self.mean[...] * factor

    def _record_statistics(
        self, mean: Float[Array, " f"], var: Float[Array, " f"], count: Float[Array, ""]
    ) -> None:
        unbiased = var * count / jnp.maximum(count - 1, 1)
        self.mean[...] += BATCH_NORM_MOMENTUM * (lax.stop_gradient(mean) - self.mean[...])
        self.var[...] += BATCH_NORM_MOMENTUM * (lax.stop_gradient(unbiased) - self.var[...])


def _count(x: Float[Array, "n ..."], mask: Bool[Array, " n"], dtype: DTypeLike) -> Float[Array, ""]:
    """Returns the number of non-empty values of each feature, at least 1."""
    return jnp.maximum(mask.sum() * (x.size // (x.shape[0] * x.shape[-1])), 1).astype(dtype)


def _weight(x: Float[Array, "n ..."], mask: Bool[Array, " n"], dtype: DTypeLike) -> Float[Array, "n ..."]:
    return mask.astype(dtype).reshape(-1, *(1,) * (x.ndim - 1))


@jax.custom_vjp
def _normalize(
    x: Float[Array, "n ..."],
    mask: Bool[Array, " n"],
    scale: Float[Array, " f"],
    bias: Float[Array, " f"],
    guess: Float[Array, " f"],
) -> tuple[Float[Array, "n ..."], Float[Array, " f"], Float[Array, " f"]]:
    """Returns x normalised by its own mean and biased variance, and these; empty items do not count.

    The derivative is written by hand, with two sums over x instead of eight, each of which would read all of
    x. The statistics are only recorded and have no gradient. `guess` is an estimate of the mean.
    """
    wide = x.astype(scale.dtype)
    weight, count = _weight(x, mask, scale.dtype), _count(x, mask, scale.dtype)
    mean, var = mean_and_variance(wide, weight, count, guess)
    factor = scale * lax.rsqrt(var + BATCH_NORM_EPSILON)
    return ((wide - mean) * factor + bias).astype(x.dtype), mean, var


def _normalize_forward(x: Array, mask: Array, scale: Array, bias: Array, guess: Array) -> tuple[Any, Any]:
    y, mean, var = _normalize(x, mask, scale, bias, guess)
    return (y, mean, var), (x, mask, scale, mean, var)


def _normalize_backward(residuals: Any, gradients: Any) -> tuple[Array, None, Array, Array, None]:
    x, mask, scale, mean, var = residuals
    gradient = gradients[0].astype(scale.dtype)
    inverse = lax.rsqrt(var + BATCH_NORM_EPSILON)
    unit = (x.astype(scale.dtype) - mean) * inverse
    to_bias, to_scale = sum_per_feature(gradient), sum_per_feature(gradient * unit)
    share = _weight(x, mask, scale.dtype) / _count(x, mask, scale.dtype)
    to_x = scale * inverse * (gradient - share * (to_bias + unit * to_scale))
    return to_x.astype(x.dtype), None, to_scale, to_bias, None


_normalize.defvjp(_normalize_forward, _normalize_backward)
