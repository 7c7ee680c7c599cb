"""Code paths for GPUs, run on a CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from mcl_jax.losses import pairwise
from mcl_jax.ops import convolution, pooling
from mcl_jax.utils import pytrees


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Has `platform_dependent` take the branch of GPUs."""
    monkeypatch.setattr(lax, "platform_dependent", lambda *arrays, default, cpu: default(*arrays))


def both_ways(monkeypatch, function, *arrays):
    here = function(*arrays)
    with monkeypatch.context() as patch:
        patch.setattr(lax, "platform_dependent", lambda *arrays, default, cpu: default(*arrays))
        return here, function(*arrays)


@pytest.mark.parametrize("num_segments", [1, 2, 5, 12])
def test_maxima_of_segments_and_their_gradients(monkeypatch, num_segments):
    rng = np.random.default_rng(num_segments)
    ids = np.full((2, 24), -1)
    for row, count in enumerate((num_segments, max(1, num_segments - 1))):  # one segment is absent
        ids[row, : 2 * count] = np.repeat(np.arange(count), 2)
    x = jnp.asarray(rng.integers(0, 3, (2, 24, 4)), jnp.float32)  # with ties
    weight = jnp.asarray(rng.normal(size=(2, num_segments, 4)), jnp.float32)

    def pooled(x):
        y = pooling.segment_max(x, jnp.asarray(ids), num_segments)
        return jnp.where(jnp.isfinite(y), y, 0)

    here, there = both_ways(monkeypatch, pooled, x)
    np.testing.assert_array_equal(here, there)
    if num_segments <= pooling._MAXIMA_AT_ONCE:  # more are in test rows alone
        slopes = both_ways(monkeypatch, jax.grad(lambda x: (pooled(x) * weight).sum()), x)
        np.testing.assert_allclose(*slopes, rtol=1e-6)


def test_sums_over_triplets_and_their_gradient(monkeypatch):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(9, 2, 3)), jnp.float32)
    labels = jnp.asarray([0, 0, 0, 1, 1, 2, 2, 2, 2])

    def loss(x):
        value, metrics = pairwise.triplet_hinge(pairwise.pairwise_distance(x), labels, 0.3, exponent=1.6)
        return value, metrics

    here, there = both_ways(monkeypatch, jax.value_and_grad(loss, has_aux=True), x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-7), here, there)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_and_their_gradients(monkeypatch, size, stride):
    rng = np.random.default_rng(size)
    x = jnp.asarray(rng.normal(size=(2, 8, 6, 8)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(size, size, 8, 8)), jnp.float32)

    def value(x, kernel):
        return jnp.square(convolution.convolve(x, kernel, stride, slope=0.01)).sum()

    here, there = both_ways(monkeypatch, jax.value_and_grad(value, (0, 1)), x, kernel)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), here, there)


@pytest.mark.parametrize("strips", [1, 4])
def test_convolutions_over_time_of_strips_and_their_gradients(monkeypatch, strips):
    rng = np.random.default_rng(strips)
    x = jnp.asarray(rng.normal(size=(2, 3, 8, 6, 4)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 3, 4, 8)), jnp.float32)

    def value(x, kernel):
        y = convolution.convolve_in_time(x, kernel, strips=strips)
        return jnp.square(y).sum(), y

    here, there = both_ways(monkeypatch, jax.value_and_grad(value, (0, 1), has_aux=True), x, kernel)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), here, there)
    each = [convolution.convolve_in_time(strip, kernel) for strip in jnp.split(x, strips, axis=2)]
    np.testing.assert_allclose(here[0][1], jnp.concatenate(each, axis=2), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("as_on_a_gpu")
def test_gradients_of_kernels_are_float32_in_half_precision():
    x, kernel = jnp.ones((2, 4, 4, 8), jnp.bfloat16), jnp.ones((3, 3, 8, 8), jnp.float32)
    y, back = jax.vjp(convolution.convolve, x, kernel)
    to_x, to_kernel = back(y)
    assert (y.dtype, to_x.dtype, to_kernel.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)


def test_norm_and_finiteness_by_leaf(monkeypatch):
    tree = {"a": jnp.full((200, 200), 2.0), "b": [jnp.ones(3), jnp.arange(2)], "c": jnp.full((), 4.0)}
    expected = np.sqrt(4 * 40_000 + 3 + 16)  # whole numbers do not count
    for norm in both_ways(monkeypatch, pytrees.norm, tree):
        assert norm == pytest.approx(expected)
    assert all(both_ways(monkeypatch, pytrees.finite, tree))
    for bad in ({**tree, "c": jnp.asarray(jnp.nan)}, {**tree, "a": tree["a"].at[5, 5].set(jnp.inf)}):
        assert not any(both_ways(monkeypatch, pytrees.finite, bad))
