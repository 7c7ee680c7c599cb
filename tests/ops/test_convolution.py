"""mcl_jax's convolutions against XLA's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcl_jax.ops import per_device
from mcl_jax.ops.convolution import convolve, convolve_in_test, convolve_in_time, map_images
from mcl_jax.ops.cpu.library import library
from mcl_jax.runtime.mesh import data_mesh, replicated, split_rows

native = pytest.mark.skipif(library() is None, reason="no C++ compiler, so convolutions are XLA's")


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
def test_value_and_gradients_in_float64_are_those_of_the_plain_convolution(images, kernel, stride):
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


CASES = [
    ((3, 5, 7, 32), (3, 3, 32, 64), 1),  # odd sizes: tiles beyond the edge
    ((1, 1, 1, 32), (3, 3, 32, 32), 1),
    ((9, 16, 11, 64), (3, 3, 64, 32), 1),  # more groups of images than one, several blocks of tiles
    ((2, 4, 6, 160), (3, 3, 160, 160), 1),  # more channels than are transformed back together
    ((2, 6, 4, 3), (3, 3, 3, 32), 1),  # too few channels for tiles
    ((2, 6, 4, 1), (5, 5, 1, 32), 1),
    ((3, 20, 66, 32), (3, 3, 32, 32), 2),  # bands of rows and of columns
    ((2, 5, 7, 32), (3, 3, 32, 32), 2),  # odd
    ((2, 6, 5, 32), (1, 1, 32, 64), 2),
    ((2, 6, 5, 32), (1, 1, 32, 64), 1),
    ((2, 9, 70, 32), (3, 1, 32, 32), 1),  # over time
    ((2, 6, 5, 8), (3, 3, 8, 8), 1),  # fewer channels than are computed at once
    ((2, 6, 5, 24), (3, 3, 24, 41), 2),  # and some more
]


def norm_error(actual, expected):
    return np.abs(np.asarray(actual, np.float64) - expected).max() / np.abs(expected).max()


@functools.cache
def exact(images, kernel, stride):
    """Arrays in float64, and from the plain convolution its output and gradients."""
    rng = np.random.default_rng(0)
    arrays = [jnp.asarray(rng.normal(size=size), jnp.float32) for size in (images, kernel)]
    with jax.enable_x64(True):
        expected, vjp = jax.vjp(lambda x, k: plain(x, k, (stride, stride)), *(jnp.float64(a) for a in arrays))
        weight = jnp.asarray(rng.normal(size=expected.shape), jnp.float32)
        gradients = [np.asarray(g) for g in vjp(jnp.float64(weight))]
    return *arrays, weight, np.asarray(expected), gradients


@native
@pytest.mark.parametrize(("images", "kernel", "stride"), CASES)
def test_the_cpp_kernels_are_exact_up_to_rounding(images, kernel, stride):
    x, k, weight, expected, gradients = exact(images, kernel, stride)
    actual, vjp = jax.vjp(lambda x, k: convolve(x, k, stride), x, k)
    assert norm_error(actual, expected) < 4e-6
    for ours, theirs in zip(vjp(weight), gradients, strict=True):
        assert norm_error(ours, theirs) < 4e-6


@native
@pytest.mark.parametrize(("images", "kernel", "stride"), [*CASES[:7:2], CASES[-1]])
@pytest.mark.parametrize("slope", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("added", [False, True])
def test_bias_residual_and_slope(images, kernel, stride, slope, added):
    x, k, residual, expected, _ = exact(images, kernel, stride)
    bias = jnp.linspace(-3, 3, kernel[-1])
    actual = convolve_in_test(x, k, stride, bias=bias, residual=residual if added else None, slope=slope)
    expected = expected + np.float64(bias) + (np.float64(residual) if added else 0)
    assert norm_error(actual, np.where(expected > 0, expected, slope * expected)) < 4e-6


@native
@pytest.mark.parametrize("kernel", [(3, 3, 32, 32), (5, 5, 32, 32)])
def test_a_slope_has_its_gradients(kernel):
    x, k, weight, expected, _ = exact((2, 6, 4, 32), kernel, 1)
    _, vjp = jax.vjp(lambda x, k: convolve(x, k, slope=0.25), x, k)
    with jax.enable_x64(True):
        reference = jax.vjp(lambda x, k: plain(x, k, (1, 1)), jnp.float64(x), jnp.float64(k))[1]
        gradients = reference(jnp.where(expected > 0, 1, 0.25) * jnp.float64(weight))
    for ours, theirs in zip(vjp(weight), gradients, strict=True):
        assert norm_error(ours, np.asarray(theirs)) < 4e-6


@pytest.mark.parametrize("channels", [1, 32])  # by XLA and, on a CPU, by our own code
def test_the_slope_is_the_gradient_below_zero_and_at_it(channels):
    x, kernel = jnp.array([-1.0, 0.0, 1.0]).reshape(3, 1, 1, 1), jnp.ones((1, 1, 1, channels))
    gradient = jax.grad(lambda x: convolve(x, kernel, slope=0.01)[..., 0].sum())(x)
    assert gradient.ravel().tolist() == pytest.approx([0.01, 0.01, 1.0])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16])  # by our own code on a CPU, and by XLA
def test_a_relu_of_minus_infinity_is_zero(dtype):
    x = jnp.full((1, 4, 4, 8), jnp.finfo(dtype).max, dtype)
    y = convolve_in_test(x, -x[0, :3, :3, :, None] * jnp.ones(8, dtype), bias=jnp.zeros(8), slope=0.0)
    assert (y == 0).all()


@native
@pytest.mark.parametrize("kernel", [(3, 3, 32, 32), (5, 5, 32, 32)])
@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_nan_is_kept_in_its_place(kernel, slope):
    x = jnp.ones((2, 8, 8, 32)).at[1, 5, 5, 7].set(jnp.nan)
    y = np.asarray(convolve_in_test(x, jnp.ones(kernel), bias=jnp.zeros(32), slope=slope))
    assert np.isnan(y[1, 4:6, 4:6]).all()  # the tile that it is in, at least
    assert np.isfinite(y[0]).all()
    assert np.isfinite(y[1, :2, :2]).all()


@native
@pytest.mark.parametrize(("images", "kernel", "stride"), [((8, 6, 4, 32), (3, 3, 32, 32), 1), CASES[6]])
@pytest.mark.parametrize("devices", [2, 4])
def test_devices_share_the_images(images, kernel, stride, devices, monkeypatch):
    images = (8, *images[1:])
    x, k, weight, *_ = exact(images, kernel, stride)
    seen = []
    shard_map = jax.shard_map
    monkeypatch.setattr(
        per_device.jax, "shard_map", lambda *args, **how: seen.append(how) or shard_map(*args, **how)
    )
    mesh = data_mesh(jax.devices()[:devices])
    rows = split_rows(mesh)

    @functools.partial(jax.jit, in_shardings=(rows, replicated(mesh), rows))
    def on_devices(x, k, weight):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            y, vjp = jax.vjp(lambda x, k: convolve(x, k, stride), x, k)
            return y, *vjp(weight)

    alone, vjp = jax.vjp(lambda x, k: convolve(x, k, stride), x, k)
    results = on_devices(x, k, weight)
    assert len(seen) >= 3
    assert results[0].sharding.is_equivalent_to(rows, 4)
    np.testing.assert_array_equal(results[0], alone)
    for ours, theirs in zip(results[1:], vjp(weight), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


@native
@pytest.mark.parametrize(("platform", "convolutions"), [("cpu", 0), ("cuda", 1)])
def test_only_the_cpu_uses_the_cpp_kernels(platform, convolutions):
    x = jax.ShapeDtypeStruct((2, 8, 8, 32), jnp.float32)
    k = jax.ShapeDtypeStruct((3, 3, 32, 32), jnp.float32)
    program = jax.jit(convolve).trace(x, k).lower(lowering_platforms=(platform,)).as_text()
    assert program.count("stablehlo.convolution") == convolutions
    assert program.count("mcl_jax_convolve") == 1 - convolutions


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_left_to_xla(dtype):
    x, k = jax.ShapeDtypeStruct((2, 8, 8, 32), dtype), jax.ShapeDtypeStruct((3, 3, 32, 32), dtype)
    assert "mcl_jax" not in jax.jit(convolve).trace(x, k).lower().as_text()


def test_a_portable_program_is_left_to_xla():
    x = jax.ShapeDtypeStruct((2, 8, 8, 32), jnp.float32)
    k = jax.ShapeDtypeStruct((3, 3, 32, 32), jnp.float32)

    def both(x, k):
        return convolve_in_test(convolve(x, k, portable=True), k, bias=k[0, 0, 0], portable=True)

    assert "mcl_jax" not in jax.jit(both).trace(x, k).lower().as_text()


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
@pytest.mark.parametrize("at_once", [False, True])
def test_images_in_chunks_give_what_they_give_at_once(images, at_once):
    def function(x, mask):
        return jnp.where(mask[:, None, None], x + 1, 0).sum(1)

    x, mask = jnp.arange(images * 6.0).reshape(images, 3, 2), jnp.arange(images) % 3 > 0
    np.testing.assert_array_equal(map_images(function, x, mask, at_once=at_once), function(x, mask))


@pytest.mark.parametrize(
    ("platform", "at_once", "loops"), [("cpu", False, 1), ("cpu", True, 0), ("cuda", False, 0)]
)
def test_only_a_test_on_the_cpu_goes_through_images_in_chunks(platform, at_once, loops):
    x = jax.ShapeDtypeStruct((40, 3), jnp.float32)
    program = jax.jit(lambda x: map_images(jnp.square, x, at_once=at_once)).trace(x)
    assert program.lower(lowering_platforms=(platform,)).as_text().count("stablehlo.while") == loops
