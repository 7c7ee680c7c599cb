"""Choices of the models where PyTorch and JAX differ by design."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from mcl_jax.losses import triplet_loss
from mcl_jax.models import batch_norm
from mcl_jax.models.layers import BatchNorm, temporal_max
from mcl_jax.ops import batch_statistics
from mcl_jax.ops.convolution import convolve


@pytest.mark.parametrize("channels", [1, 32])  # by XLA and, on a CPU, by our own code
def test_leaky_relu_has_pytorchs_derivative_at_zero(channels):
    zero = torch.zeros(1, requires_grad=True)
    torch.nn.functional.leaky_relu(zero).backward()
    kernel = jnp.ones((1, 1, 1, channels))
    gradient = jax.grad(lambda x: convolve(x, kernel, slope=0.01)[..., 0].sum())(jnp.zeros((1, 1, 1, 1)))
    assert gradient.item() == np.float32(0.01) == zero.grad.item()
    assert jax.grad(jax.nn.leaky_relu)(0.0) == 1  # why it is not used


def test_relu_has_pytorchs_derivative_at_zero():
    zero = torch.zeros(1, requires_grad=True)
    torch.relu(zero).backward()
    assert jax.grad(jax.nn.relu)(0.0) == 0 == zero.grad.item()


def test_tied_frames_share_the_gradient_evenly_where_pytorch_picks_one():
    frames = np.array([[[[2.0]]], [[[5.0]]], [[[5.0]]]], np.float32)
    segment_ids = jnp.zeros((1, 3), jnp.int32)
    ours = jax.grad(lambda x: temporal_max(x, segment_ids, 1).sum())(jnp.asarray(frames))
    np.testing.assert_array_equal(ours.ravel(), [0, 0.5, 0.5])

    theirs = torch.from_numpy(frames).requires_grad_()
    theirs.max(0)[0].sum().backward()
    assert sorted(theirs.grad.ravel().tolist()) == [0, 0, 1]
    assert ours.sum() == theirs.grad.sum().item()


def test_tied_pixels_of_max_pooling_give_the_gradient_to_the_first_as_in_pytorch():
    image = np.array([[1.0, 3.0], [3.0, 3.0]], np.float32)
    ours = jax.grad(lambda x: nnx.max_pool(x[None, :, :, None], (2, 2), strides=(2, 2)).sum())(
        jnp.asarray(image)
    )
    theirs = torch.from_numpy(image).requires_grad_()
    torch.nn.functional.max_pool2d(theirs[None, None], 2).sum().backward()
    np.testing.assert_array_equal(ours, [[0, 1], [0, 0]])
    np.testing.assert_array_equal(ours, theirs.grad)


def test_running_variance_is_unbiased_and_normalisation_is_not():
    x = np.array([[1.0], [2.0], [6.0]], np.float32)
    norm = BatchNorm(1, rngs=nnx.Rngs(0))
    norm.scale[...] = jnp.ones(1)
    output = norm(jnp.asarray(x), train=True)
    # The variance of (1, 2, 6) is 14/3, unbiased 7.
    np.testing.assert_allclose(norm.var[...], [0.9 + 0.1 * 7], rtol=1e-6)
    np.testing.assert_allclose(output, (x - 3) / np.sqrt(14 / 3 + 1e-5), rtol=1e-6)

    theirs = torch.nn.BatchNorm1d(1)
    expected = theirs(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(norm.var[...], theirs.running_var, rtol=1e-6)
    np.testing.assert_allclose(output, expected, rtol=1e-6)


@pytest.mark.parametrize("reads", ["_in_two_reads", "_in_one_read"])  # on a CPU and on a GPU
def test_batch_norm_trains_as_pytorchs(monkeypatch, reads):
    monkeypatch.setattr(batch_statistics, "_in_two_reads", getattr(batch_statistics, reads))
    rng = np.random.default_rng(0)
    theirs = torch.nn.BatchNorm2d(5).double()
    with jax.enable_x64(True):
        norm = BatchNorm(5, rngs=nnx.Rngs(0))
        nnx.update(norm, jax.tree.map(lambda x: x.astype("float64"), nnx.state(norm)))
        norm.scale[...], norm.bias[...] = rng.normal(size=(2, 5))
        with torch.no_grad():
            theirs.weight.copy_(torch.from_numpy(np.array(norm.scale[...])))
            theirs.bias.copy_(torch.from_numpy(np.array(norm.bias[...])))
        for _ in range(4):
            x, gradient = rng.normal(20, 3, (6, 4, 3, 5)), rng.normal(size=(6, 4, 3, 5))
            mask, scale, bias, mean = jnp.ones(6, bool), norm.scale[...], norm.bias[...], norm.mean[...]
            _, vjp = jax.vjp(lambda *a: batch_norm._normalize(*a)[0], jnp.asarray(x), mask, scale, bias, mean)
            ours = norm(jnp.asarray(x), train=True)
            batch = torch.from_numpy(x).movedim(-1, 1).requires_grad_()
            expected = theirs(batch)
            expected.backward(torch.from_numpy(gradient).movedim(-1, 1))
            np.testing.assert_allclose(ours, expected.detach().movedim(1, -1), rtol=1e-9, atol=1e-12)
            found = vjp(jnp.asarray(gradient))
            np.testing.assert_allclose(found[0], batch.grad.movedim(1, -1), rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(found[2], theirs.weight.grad, rtol=1e-9)
            np.testing.assert_allclose(found[3], theirs.bias.grad, rtol=1e-9)
            theirs.zero_grad()
        np.testing.assert_allclose(norm.mean[...], theirs.running_mean, rtol=1e-12)
        np.testing.assert_allclose(norm.var[...], theirs.running_var, rtol=1e-12)


def test_equal_embeddings_have_a_finite_gradient():
    embeddings = jnp.ones((4, 1, 3))
    labels = jnp.array([0, 0, 1, 1])
    gradient = jax.grad(lambda x: triplet_loss(x, labels)[0])(embeddings)
    np.testing.assert_array_equal(gradient, jnp.zeros_like(embeddings))
