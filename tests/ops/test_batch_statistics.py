"""Sums, means and variances against NumPy, on the code paths of CPU and GPU."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcl_jax.ops import batch_statistics
from mcl_jax.ops.batch_statistics import mean_and_variance, sum_per_feature

WAYS = {"one read": batch_statistics._in_one_read, "two reads": batch_statistics._in_two_reads}


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


@pytest.mark.parametrize(("platform", "count"), [("cpu", 2), ("cuda", 1)])
def test_only_the_cpu_sums_in_two_steps(platform, count):
    x = jax.ShapeDtypeStruct((2, 8, 8, 4), jnp.float32)
    program = jax.jit(sum_per_feature).trace(x).lower(lowering_platforms=(platform,)).as_text()
    assert program.count("stablehlo.reduce(") == count


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("guess", [0.0, 3.0, -40.0])
def test_mean_and_variance_without_empty_items(way, guess):
    x = np.random.default_rng(0).normal(3, 2, (5, 6, 4, 7))
    kept = np.array([True, False, True, True, False])
    with jax.enable_x64(True):
        weight = jnp.asarray(kept, float).reshape(-1, 1, 1, 1)
        mean, var = WAYS[way](jnp.asarray(x), weight, jnp.array(72.0), jnp.full(7, guess))
    np.testing.assert_allclose(mean, x[kept].mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(var, x[kept].var((0, 1, 2)), rtol=1e-11)


@pytest.mark.parametrize("way", WAYS)
def test_a_mean_far_off_zero_does_not_cancel(way):
    """E[x²] − E[x]² in float32 would be off by a tenth here."""
    x = np.random.default_rng(0).normal(1000, 1, (20, 16, 11, 4)).astype(np.float32)
    guess = jnp.array([1000.0, 999.0, 998.0, 1004.0])
    _, var = WAYS[way](jnp.asarray(x), jnp.ones((20, 1, 1, 1)), jnp.array(3520.0), guess)
    # One read is off by a float's error times 1 + (mean − guess)² / variance, 17 at most here.
    np.testing.assert_allclose(var, x.astype(np.float64).var((0, 1, 2)), rtol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_a_variance_is_not_negative(way):
    x = jnp.full((8, 5, 3, 2), jnp.float32(0.1))
    _, var = WAYS[way](x, jnp.ones((8, 1, 1, 1)), jnp.array(120.0), jnp.array([0.0, 7.0]))
    assert (var >= 0).all()
    assert (var < 1e-5).all()  # of 7² = 49, a float's error is 6e-6


@pytest.mark.parametrize(("platform", "one_after_another"), [("cpu", 2), ("cuda", 1)])
def test_only_the_cpu_reads_twice(platform, one_after_another):
    """How many sums wait for another's result."""
    x, weight = jnp.zeros((6, 1, 4)), jnp.ones((6, 1, 1))  # one pixel: sums in one step
    traced = jax.jit(mean_and_variance).trace(x, weight, jnp.array(6.0), jnp.zeros(4))
    depth: dict[str, int] = {}
    for line in traced.lower(lowering_platforms=(platform,)).as_text().splitlines():
        result, *operands = re.findall(r"%\w+", line.partition("across")[0]) or [""]
        own = int("stablehlo.reduce(" in line)
        depth[result] = own + max((depth.get(name, 0) for name in operands), default=0)
    assert max(depth.values()) == one_after_another
