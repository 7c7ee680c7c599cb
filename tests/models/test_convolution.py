"""The CPU's ways to convolve against XLA's plain one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcl_jax.models.convolution import convolve, convolve_in_test, convolve_in_time, map_images


@pytest.mark.parametrize(
    ("images", "kernel", "stride"),
    [
        ((3, 5, 7, 128), (3, 3, 128, 129), 1),  # odd sizes, one chunk
        ((5, 32, 44, 128), (3, 3, 128, 128), 1),  # two chunks, the last one filled up
        ((2, 64, 32, 64), (3, 3, 64, 64), 1),  # an image a chunk
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


def plain(x, kernel, strides):
    letters = "DHW"[-len(strides) :]
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        strides,
        [(size // 2, size // 2) for size in kernel.shape[:-2]],
        dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
    )


@pytest.mark.parametrize(
    ("images", "kernel", "stride"),
    [
        ((2, 6, 4, 3), (3, 3, 3, 5), 1),
        ((2, 6, 4, 3), (3, 3, 3, 5), 2),
        ((2, 2, 2, 3), (3, 3, 3, 5), 2),
        ((2, 5, 4, 3), (3, 3, 3, 5), 2),  # odd: no pairs of rows
        ((2, 6, 5, 3), (1, 1, 3, 5), 2),
        ((2, 6, 4, 3), (5, 5, 3, 5), 1),
        ((2, 4, 6, 4, 3), (3, 3, 3, 3, 5), 2),
        ((2, 1, 5, 4, 3), (3, 3, 3, 3, 5), 1),
    ],
)
def test_value_and_gradients_are_those_of_the_plain_convolution(images, kernel, stride):
    rng = np.random.default_rng(0)
    ours = convolve if len(images) == 4 else convolve_in_time
    strides = (stride, stride) if len(images) == 4 else (1, stride, stride)
    with jax.enable_x64(True):
        x, k = jnp.asarray(rng.normal(size=images)), jnp.asarray(rng.normal(size=kernel))
        expected, expected_vjp = jax.vjp(lambda x, k: plain(x, k, strides), x, k)
        actual, actual_vjp = jax.vjp(lambda x, k: ours(x, k, stride), x, k)
        np.testing.assert_allclose(actual, expected, atol=1e-10)
        weight = jnp.asarray(rng.normal(size=expected.shape))
        for a, b in zip(actual_vjp(weight), expected_vjp(weight), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-10)


def test_rounding_is_that_of_float32():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 16, 11, 128)).astype(np.float32)
    k = (rng.normal(size=(3, 3, 128, 128)) / 34).astype(np.float32)
    ours = np.asarray(convolve_in_test(jnp.asarray(x), jnp.asarray(k)))
    with jax.enable_x64(True):
        exact = np.asarray(convolve(jnp.asarray(x, jnp.float64), jnp.asarray(k, jnp.float64)))
    assert np.abs(ours - exact).max() < 1e-6 * np.abs(exact).max()


@pytest.mark.parametrize(("platform", "convolutions"), [("cpu", 0), ("cuda", 1)])
def test_only_the_cpu_is_given_winograd(platform, convolutions):
    x = jax.ShapeDtypeStruct((2, 8, 8, 128), jnp.float32)
    k = jax.ShapeDtypeStruct((3, 3, 128, 128), jnp.float32)
    program = jax.jit(convolve_in_test).trace(x, k).lower(lowering_platforms=(platform,)).as_text()
    assert program.count("stablehlo.convolution") == convolutions


@pytest.mark.parametrize(("platform", "dilated"), [("cpu", 0), ("cuda", 1)])
def test_only_the_cpu_is_given_the_gradient_without_zeros(platform, dilated):
    x = jax.ShapeDtypeStruct((2, 8, 8, 4), jnp.float32)
    k = jax.ShapeDtypeStruct((3, 3, 4, 4), jnp.float32)
    gradient = jax.jit(jax.grad(lambda x, k: jnp.square(convolve(x, k, 2)).sum()))
    program = gradient.trace(x, k).lower(lowering_platforms=(platform,)).as_text()
    assert program.count("lhs_dilate = [2, 2]") == dilated


@pytest.mark.parametrize(("platform", "barriers"), [("cpu", 1), ("cuda", 0)])
def test_only_the_cpu_is_given_a_barrier_before_the_gradient_of_a_kernel(platform, barriers):
    x = jax.ShapeDtypeStruct((2, 8, 8, 4), jnp.float32)
    k = jax.ShapeDtypeStruct((3, 3, 4, 4), jnp.float32)
    gradient = jax.jit(jax.grad(lambda k, x: jnp.square(convolve(x, k)).sum()))
    program = gradient.trace(k, x).lower(lowering_platforms=(platform,)).as_text()
    assert program.count("optimization_barrier") == barriers


@pytest.mark.parametrize("images", [16, 17, 40])
@pytest.mark.parametrize("train", [False, True])
def test_images_in_chunks_give_what_they_give_at_once(images, train):
    def function(x, mask):
        return jnp.where(mask[:, None, None], x + 1, 0).sum(1)

    x, mask = jnp.arange(images * 6.0).reshape(images, 3, 2), jnp.arange(images) % 3 > 0
    np.testing.assert_array_equal(map_images(function, x, mask, train=train), function(x, mask))


@pytest.mark.parametrize(
    ("platform", "train", "loops"), [("cpu", False, 1), ("cpu", True, 0), ("cuda", False, 0)]
)
def test_only_a_test_on_the_cpu_goes_through_images_in_chunks(platform, train, loops):
    x = jax.ShapeDtypeStruct((40, 3), jnp.float32)
    program = jax.jit(lambda x: map_images(jnp.square, x, train=train)).trace(x)
    assert program.lower(lowering_platforms=(platform,)).as_text().count("stablehlo.while") == loops
