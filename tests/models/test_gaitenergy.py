import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcl_jax.convert.opengait import entries
from mcl_jax.errors import CheckpointError
from mcl_jax.models.registry import create_model

SIZES = {"channels": (2, 3, 4), "embed_dim": 5, "num_classes": 3}


def embed(frames: np.ndarray, gates: int) -> np.ndarray:
    model = create_model("gaitenergy", SIZES | {"gates": gates}, dtype="float32")
    module = model.merge(*model.initial_arrays(0))
    ids = jnp.zeros((1, len(frames)), jnp.int32)
    return np.asarray(module(jnp.asarray(frames)[None], ids, num_segments=1, train=False).embeddings[0])


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 2, (4, 16, 11), np.uint8) * 255
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


@pytest.mark.slow
def test_neither_order_nor_repetition_of_frames_matters(frames):
    reference = embed(frames, 3)
    np.testing.assert_allclose(embed(frames[::-1], 3), reference, atol=1e-5)
    np.testing.assert_allclose(embed(np.concatenate([frames, frames]), 3), reference, atol=1e-5)


@pytest.mark.slow
def test_with_one_kind_of_frames_only_the_mean_frame_counts_whichever_way_it_looks(frames):
    reference = embed(frames, 1)
    np.testing.assert_allclose(embed(frames[:, :, ::-1], 1), reference, atol=1e-5)
    mean = frames.astype(np.float32).mean(axis=0, keepdims=True) / 255
    np.testing.assert_allclose(embed(mean, 1), reference, atol=1e-5)


@pytest.mark.slow
def test_with_several_kinds_frames_count_by_what_they_show(frames):
    mean = frames.astype(np.float32).mean(axis=0, keepdims=True) / 255
    assert np.abs(embed(frames, 3) - embed(mean, 3)).max() > 1e-4


def test_pytorch_has_no_such_model():
    model = create_model("gaitenergy", SIZES, dtype="float32")
    params, _ = jax.device_get(model.initial_arrays(0))
    with pytest.raises(CheckpointError, match="OpenGait has no gaitenergy"):
        entries("gaitenergy", params)
