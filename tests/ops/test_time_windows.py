"""Temporal windows over packed rows, against PyTorch on single sequences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcl_jax.ops.time_windows import window_joined, window_max, window_mean

torch = pytest.importorskip("torch")  # the newest JAX is tested without it
F = torch.nn.functional

LENGTHS = [(3, 1, 4), (2, 5)]  # of the sequences of two rows, without an empty slot between them


@pytest.fixture
def rows():
    ids = np.full((2, 9), -1)
    for row, lengths in enumerate(LENGTHS):
        ids[row, : sum(lengths)] = np.repeat(np.arange(len(lengths)), lengths)
    x = np.random.default_rng(0).integers(-3, 3, (2, 9, 2)).astype(np.float32)  # with ties
    return x, ids


def alone(function, x, ids):
    """Applies PyTorch's function of [1, c, s] to each sequence alone, with zeros at empty slots."""
    y = torch.zeros(x.shape)
    for row, lengths in enumerate(LENGTHS):
        for segment in range(len(lengths)):
            here = torch.from_numpy(ids[row] == segment)
            y[row, here] = function(x[row, here].T[None])[0].T
    return y


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("kind", ["mean", "max"])
def test_windows_and_their_gradients_end_at_the_borders(rows, kind, size):
    x, ids = rows
    ours, pool = {"mean": (window_mean, F.avg_pool1d), "max": (window_max, F.max_pool1d)}[kind]
    there = jnp.asarray(ids >= 0)[..., None]
    weights = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)

    def value(x):
        y = jnp.where(there, ours(x, jnp.asarray(ids), size), 0)
        return (y * weights).sum(), y

    (_, found), slope = jax.value_and_grad(value, has_aux=True)(jnp.asarray(x))
    theirs = torch.from_numpy(x).requires_grad_()
    expected = alone(lambda clip: pool(clip, size, 1, size // 2), theirs, ids)
    (expected * torch.from_numpy(weights)).sum().backward()
    np.testing.assert_allclose(found, expected.detach(), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(slope, theirs.grad, rtol=1e-5, atol=1e-6)


def test_a_product_with_joined_neighbours_is_a_convolution(rows):
    x, ids = rows
    kernel = np.random.default_rng(1).normal(size=(4, 2, 3)).astype(np.float32)  # PyTorch's [out, in, time]
    flat = kernel.transpose(2, 1, 0).reshape(-1, 4)
    found = window_joined(jnp.asarray(x), jnp.asarray(ids), 3) @ flat
    padded = np.concatenate([x, np.zeros_like(x)], -1)  # `alone` keeps the number of channels

    def convolved(clip):
        return F.conv1d(clip[:, :2], torch.from_numpy(kernel), padding=1)

    expected = alone(convolved, torch.from_numpy(padded), ids).numpy()
    there = ids >= 0
    np.testing.assert_allclose(found[there], expected[there], rtol=1e-5, atol=1e-5)
