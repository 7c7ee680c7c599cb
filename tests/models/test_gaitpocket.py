import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcl_jax.convert.opengait import entries
from mcl_jax.errors import CheckpointError
from mcl_jax.models.gaitpocket import Whitening
from mcl_jax.models.registry import create_model
from mcl_jax.utils.pytrees import replace_leaves

SIZES = {"channels": (2, 3, 4, 4), "embed_dim": 5, "num_classes": 3}


def embed(frames: np.ndarray, worth: float = 0.0, *, train: bool = False) -> np.ndarray:
    """Of an untrained model in which a frame counts by `worth` times what its first channel says."""
    model = create_model("gaitpocket", SIZES, dtype="float32")
    params, batch_stats = model.initial_arrays(0)
    params = replace_leaves(params, {("worth",): np.array([worth, 0, 0, 0])})
    module = model.merge(params, batch_stats)
    ids = jnp.zeros((1, len(frames)), jnp.int32)
    return np.asarray(module(jnp.asarray(frames)[None], ids, num_segments=1, train=train).embeddings[0])


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 2, (4, 16, 11), np.uint8) * 255
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


@pytest.mark.slow
def test_neither_order_nor_repetition_of_frames_matters(frames):
    reference = embed(frames, 0.5)
    np.testing.assert_allclose(embed(frames[::-1], 0.5), reference, atol=1e-5)
    np.testing.assert_allclose(embed(np.concatenate([frames, frames]), 0.5), reference, atol=1e-5)


@pytest.mark.slow
def test_in_a_test_it_does_not_matter_which_way_somebody_walks(frames):
    reference = embed(frames)
    np.testing.assert_allclose(embed(frames[:, :, ::-1]), reference, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(reference, axis=-1), 1, atol=1e-5)
    one_way, other_way = embed(frames, train=True), embed(frames[:, :, ::-1], train=True)
    assert np.abs(one_way - other_way).max() > 1e-3


@pytest.mark.slow
def test_frames_count_by_what_they_show(frames):
    assert np.abs(embed(frames, 50.0) - embed(frames, 0.0)).max() > 1e-3


def test_whitening_by_hand():
    whitening = Whitening(1, 2)
    whitening.mean[...] = jnp.array([[0.5, 0.0]])
    whitening.map[...] = jnp.array([[[2.0, 0.0], [0.0, 1.0]]])
    # (3, 0) and (0, 4) have length 1 as (1, 0) and (0, 1); their mean direction is (√½, √½).
    found = whitening(jnp.array([[[3.0, 0.0]]]), jnp.array([[[0.0, 4.0]]]))[0, 0]
    expected = np.array([2 * (np.sqrt(0.5) - 0.5), np.sqrt(0.5)])
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-6)


def test_pytorch_has_no_such_model():
    model = create_model("gaitpocket", SIZES, dtype="float32")
    params, _ = jax.device_get(model.initial_arrays(0))
    with pytest.raises(CheckpointError, match="OpenGait has no gaitpocket"):
        entries("gaitpocket", params)
