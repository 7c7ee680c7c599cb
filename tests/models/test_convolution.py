"""Winograd's convolution against XLA's plain one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcl_jax.models.convolution import convolve, convolve_in_test


@pytest.mark.parametrize(
    ("images", "kernel", "stride"),
    [
        ((3, 5, 7, 64), (3, 3, 64, 65), 1),  # odd sizes, one chunk
        ((5, 32, 44, 64), (3, 3, 64, 64), 1),  # two chunks, the last one filled up
        ((2, 6, 4, 64), (3, 3, 64, 64), 2),
        ((2, 6, 4, 1), (5, 5, 1, 64), 1),
        ((2, 6, 4, 64), (1, 1, 64, 64), 2),
    ],
)
def test_equals_the_plain_convolution(images, kernel, stride):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x, k = jnp.asarray(rng.normal(size=images)), jnp.asarray(rng.normal(size=kernel))
        np.testing.assert_allclose(convolve_in_test(x, k, stride), convolve(x, k, stride), atol=1e-10)


def test_rounding_is_that_of_float32():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 16, 11, 64)).astype(np.float32)
    k = (rng.normal(size=(3, 3, 64, 64)) / 24).astype(np.float32)
    ours = np.asarray(convolve_in_test(jnp.asarray(x), jnp.asarray(k)))
    with jax.enable_x64(True):
        exact = np.asarray(convolve(jnp.asarray(x, jnp.float64), jnp.asarray(k, jnp.float64)))
    assert np.abs(ours - exact).max() < 1e-6 * np.abs(exact).max()


@pytest.mark.parametrize(("platform", "convolutions"), [("cpu", 0), ("cuda", 1)])
def test_only_the_cpu_is_given_winograd(platform, convolutions):
    x = jax.ShapeDtypeStruct((2, 8, 8, 64), jnp.float32)
    k = jax.ShapeDtypeStruct((3, 3, 64, 64), jnp.float32)
    program = jax.jit(convolve_in_test).trace(x, k).lower(lowering_platforms=(platform,)).as_text()
    assert program.count("stablehlo.convolution") == convolutions
