"""The CPU's sums in two steps against NumPy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcl_jax.models.sums import sum_per_feature


@pytest.mark.parametrize(
    "shape", [(3, 4), (2, 7, 5), (3, 64, 44, 2), (2, 23, 1, 3), (2, 31, 29, 3), (1, 1, 1, 1)]
)
def test_is_the_sum_over_all_axes_but_the_last(shape):
    x = np.random.default_rng(0).normal(size=shape)
    with jax.enable_x64(True):
        ours, vjp = jax.vjp(sum_per_feature, jnp.asarray(x))
        (gradient,) = vjp(jnp.arange(1.0, shape[-1] + 1))
    np.testing.assert_allclose(ours, x.reshape(-1, shape[-1]).sum(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(gradient, np.broadcast_to(np.arange(1.0, shape[-1] + 1), shape))


def test_error_is_that_of_float32():
    x = (np.random.default_rng(0).normal(size=(60, 64, 44, 4)) + 1).astype(np.float32)
    exact = x.astype(np.float64).sum((0, 1, 2))
    assert np.abs(sum_per_feature(jnp.asarray(x)) / exact - 1).max() < 1e-6


@pytest.mark.parametrize(("platform", "sums"), [("cpu", 2), ("cuda", 1)])
def test_only_the_cpu_sums_in_two_steps(platform, sums):
    x = jax.ShapeDtypeStruct((2, 8, 8, 4), jnp.float32)
    program = jax.jit(sum_per_feature).trace(x).lower(lowering_platforms=(platform,)).as_text()
    assert program.count("stablehlo.reduce(") == sums
