"""Winograd's convolution against XLA's plain one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from mcl_jax.models.convolution import convolve


def plain(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    padding = [(size // 2, size // 2) for size in kernel.shape[:2]]
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=layout)


@pytest.mark.parametrize(
    ("images", "kernel", "stride"),
    [
        ((3, 5, 7, 32), (3, 3, 32, 33), 1),  # odd sizes, one chunk
        ((7, 32, 44, 32), (3, 3, 32, 32), 1),  # three chunks, the last one filled up
        ((2, 6, 4, 32), (3, 3, 32, 32), 2),
        ((2, 6, 4, 2), (3, 3, 2, 3), 1),
        ((2, 6, 4, 1), (5, 5, 1, 32), 1),
        ((2, 6, 4, 32), (1, 1, 32, 32), 2),
        ((2, 6, 4, 32), (3, 1, 32, 32), 1),
    ],
)
def test_values_and_gradients_are_those_of_the_plain_convolution(images, kernel, stride):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x, k = jnp.asarray(rng.normal(size=images)), jnp.asarray(rng.normal(size=kernel))

        def value_and_gradients(f):
            loss = lambda x, k: jnp.sin(f(x, k, stride)).sum()  # noqa: E731
            return f(x, k, stride), jax.grad(loss, argnums=(0, 1))(x, k)

        ours, theirs = value_and_gradients(convolve), value_and_gradients(plain)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-10)


def test_rounding_is_that_of_float32():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 16, 11, 64)).astype(np.float32)
    k = (rng.normal(size=(3, 3, 64, 64)) / 24).astype(np.float32)
    ours = convolve(jnp.asarray(x), jnp.asarray(k))
    with jax.enable_x64(True):
        exact = np.asarray(plain(jnp.asarray(x, jnp.float64), jnp.asarray(k, jnp.float64), 1))
    assert np.abs(np.asarray(ours) - exact).max() < 1e-6 * np.abs(exact).max()


@pytest.mark.parametrize(("platform", "convolutions"), [("cpu", 0), ("cuda", 1)])
def test_only_the_cpu_is_given_winograd(platform, convolutions):
    x = jax.ShapeDtypeStruct((2, 8, 8, 32), jnp.float32)
    k = jax.ShapeDtypeStruct((3, 3, 32, 32), jnp.float32)
    program = jax.jit(convolve).trace(x, k).lower(lowering_platforms=(platform,)).as_text()
    assert program.count("stablehlo.convolution") == convolutions
