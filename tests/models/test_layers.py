"""Layers against hand-computed values and plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mcl_jax.models import layers
from mcl_jax.models.initializers import part_matrix_init
from mcl_jax.ops.pooling import max_pool_2x2, max_pool_3x3


def test_batch_norm_leaves_out_empty_slots():
    x = np.random.default_rng(0).normal(3, 2, (6, 2, 2, 3)).astype(np.float32)
    mask = np.array([True, False, True, True, False, True])
    norm = layers.BatchNorm(3, rngs=nnx.Rngs(0))
    norm.scale[...] = jnp.ones(3)
    y = norm(jnp.asarray(x), train=True, mask=jnp.asarray(mask))
    kept = x[mask].reshape(-1, 3)
    expected = (x - kept.mean(0)) / np.sqrt(kept.var(0) + 1e-5)
    assert y[mask] == pytest.approx(expected[mask], abs=1e-5)
    # PyTorch's running statistics: a tenth of the new ones, variance unbiased.
    assert norm.mean[...] == pytest.approx(0.1 * kept.mean(0), rel=1e-5)
    assert norm.var[...] == pytest.approx(0.9 + 0.1 * kept.var(0, ddof=1), rel=1e-5)


def test_batch_norm_uses_running_statistics_in_test():
    norm = layers.BatchNorm(1, rngs=nnx.Rngs(0))
    norm.scale[...], norm.bias[...] = jnp.array([2.0]), jnp.array([1.0])
    norm.mean[...], norm.var[...] = jnp.array([3.0]), jnp.array([4.0])
    y = norm(jnp.array([[5.0], [3.0]]), train=False)
    assert y.ravel().tolist() == pytest.approx([3.0, 1.0], abs=1e-4)
    assert norm.mean[...].tolist() == [3.0]


def test_batch_norm_survives_an_empty_batch():
    norm = layers.BatchNorm(2, rngs=nnx.Rngs(0))
    y = norm(jnp.ones((3, 2)), train=True, mask=jnp.zeros(3, bool))
    assert jnp.isfinite(y).all()
    assert jnp.isfinite(norm.var[...]).all()


def test_temporal_max_by_hand():
    features = jnp.array([1.0, 5.0, -2.0, -1.0, 9.0, 9.0]).reshape(6, 1)
    segment_ids = jnp.array([[0, 0, -1], [0, -1, 1]])
    pooled = layers.temporal_max(features, segment_ids, 2)
    # Row 0 has one sequence; row 1 two, the empty slot between them holding 9.
    assert pooled.ravel().tolist() == [5.0, 0.0, -1.0, 9.0]
    present = layers.segments_present(segment_ids, 2)
    assert present.tolist() == [True, False, True, True]


def test_tied_frames_share_the_gradient_evenly():
    x = jnp.array([[2.0], [2.0], [1.0]])
    gradient = jax.grad(lambda x: layers.temporal_max(x, jnp.zeros((1, 3), int), 1).sum())(x)
    assert gradient.ravel().tolist() == [0.5, 0.5, 0.0]


def test_horizontal_pyramid_pool_by_hand():
    x = jnp.arange(8.0).reshape(1, 4, 2, 1)
    pooled = layers.horizontal_pyramid_pool(x, (2, 1))
    # Strips 0…3 and 4…7, then 0…7: mean plus maximum of each.
    assert pooled.ravel().tolist() == [1.5 + 3, 5.5 + 7, 3.5 + 7]


def test_uint8_frames_are_divided_by_255():
    frames = jnp.array([0, 51, 255], jnp.uint8).reshape(1, 3, 1, 1)
    assert layers.to_unit_range(frames, jnp.float32).ravel().tolist() == pytest.approx([0, 0.2, 1])
    in_float = jnp.array([0.0, 0.2, 1.0]).reshape(1, 3, 1, 1)
    assert layers.to_unit_range(in_float, jnp.float32).ravel().tolist() == pytest.approx([0, 0.2, 1])


def test_necks_return_unit_features_and_cosines():
    necks = layers.BNNecks(2, 3, 5, dtype="float32", rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (4, 2, 3))
    normed, logits = necks(x, train=True, mask=jnp.ones(4, bool))
    assert jnp.linalg.norm(normed, axis=-1) == pytest.approx(np.ones((4, 2)), abs=1e-5)
    assert logits.shape == (4, 2, 5)
    assert jnp.abs(logits).max() <= 1 + 1e-5


def test_necks_have_a_finite_gradient_at_the_zero_vector():
    necks = layers.BNNecks(1, 2, 3, dtype="float32", rngs=nnx.Rngs(0))
    gradient = jax.grad(lambda x: necks(x, train=False, mask=jnp.ones(2, bool))[1].sum())(
        jnp.zeros((2, 1, 2))
    )
    assert jnp.isfinite(gradient).all()


def test_part_matrix_bound():
    matrix = part_matrix_init(jax.random.key(0), (16, 512, 256), jnp.float32)
    bound = (6 / ((512 + 16) * 256)) ** 0.5
    assert jnp.abs(matrix).max() == pytest.approx(bound, rel=1e-3)
    assert matrix.std() == pytest.approx(bound / 3**0.5, rel=1e-2)


@pytest.mark.parametrize("shape", [(2, 4, 6, 1), (1, 5, 7, 3), (1, 1, 2, 1)])
def test_max_pool_of_3x3_is_that_of_resnets(shape):
    x = jnp.asarray(np.random.default_rng(0).integers(0, 3, shape).astype(np.float32))  # with many ties

    def theirs(x):
        return nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))

    assert np.array_equal(max_pool_3x3(x), theirs(x))
    weights = jnp.arange(theirs(x).size, dtype=jnp.float32).reshape(theirs(x).shape)
    gradients = [
        jax.grad(lambda x, pool=pool: (pool(x) * weights).sum())(x) for pool in (max_pool_3x3, theirs)
    ]
    assert np.array_equal(*gradients)


def test_max_pool_gives_the_gradient_to_the_first_of_equals():
    x = jnp.array([[1.0, 3.0, 5.0, 5.0], [3.0, 2.0, 5.0, 5.0]]).reshape(1, 2, 4, 1)
    assert max_pool_2x2(x).ravel().tolist() == [3.0, 5.0]
    gradient = jax.grad(lambda x: max_pool_2x2(x).sum())(x)
    assert gradient[0, :, :, 0].tolist() == [[0, 1, 1, 0], [0, 0, 0, 0]]


def test_batch_norm_in_test_is_folded_into_the_convolution():
    block = layers.ConvBN(2, 3, dtype=jnp.float32, rngs=nnx.Rngs(0))
    block.norm.mean[...], block.norm.var[...] = jnp.arange(3.0), jnp.array([0.5, 1.0, 2.0])
    block.norm.bias[...] = jnp.array([1.0, -1.0, 0.0])
    x = jax.random.normal(jax.random.key(0), (4, 6, 5, 2))
    mask = jnp.ones(4, bool)
    expected = block.norm(block.conv(x), train=False, mask=mask)
    assert np.asarray(block(x, train=False, mask=mask)) == pytest.approx(np.asarray(expected), abs=1e-5)


def test_frozen_batch_norm_trains_with_the_running_statistics_and_leaves_them():
    norm = layers.BatchNorm(1, rngs=nnx.Rngs(0))
    norm.scale[...], norm.bias[...] = jnp.array([2.0]), jnp.array([1.0])
    norm.mean[...], norm.var[...] = jnp.array([3.0]), jnp.array([4.0 - 1e-5])
    x = jnp.array([[5.0], [100.0]])
    norm.frozen = True
    y = norm(x, train=True, mask=jnp.array([True, False]))
    graphdef, params, stats = nnx.split(norm, nnx.Param, nnx.BatchStat)
    to = jax.grad(lambda params: nnx.merge(graphdef, params, stats)(x, train=True).sum())(params)
    assert y[0, 0] == pytest.approx(2 * (5 - 3) / 2 + 1)
    assert to["scale"][...] == pytest.approx((5 - 3) / 2 + (100 - 3) / 2)
    assert to["bias"][...] == 2
    assert (norm.mean[...].item(), norm.var[...].item()) == (3.0, np.float32(4.0 - 1e-5))
    norm.frozen = False
    norm(x, train=True)
    assert norm.mean[...].item() != 3.0
