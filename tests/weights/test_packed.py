import dataclasses

import jax
import numpy as np
import pytest

import mcl_jax
from mcl_jax.errors import CheckpointError
from mcl_jax.models.registry import Weights, create_model
from mcl_jax.weights.packed import read_packed, write_packed

SIZES = {"channels": (2, 3, 4, 4), "embed_dim": 5, "num_classes": 7}


@pytest.fixture(scope="module")
def weights() -> Weights:
    model = create_model("gaitpocket", SIZES, dtype="float32")
    params, batch_stats = jax.device_get(model.initial_arrays(0))
    return Weights(model.block, params, batch_stats, 12, "here")


def test_comes_back_without_its_classifier_to_half_precision(weights, tmp_path):
    path = tmp_path / "model.npz"
    write_packed(path, weights)
    found = read_packed(path)
    assert (found.block, found.step) == ({**weights.block, "num_classes": 1}, 12)
    assert found.params["head"]["necks"]["kernel"].shape == (16, 5, 1)
    before, after = weights.params["stages"][0]["conv1"]["conv"], found.params["stages"][0]["conv1"]["conv"]
    np.testing.assert_allclose(after["kernel"], before["kernel"], rtol=5e-4)
    assert after["kernel"].dtype == np.float32
    np.testing.assert_array_equal(found.batch_stats["stem"]["norm"]["var"], 1)


def test_is_loaded_and_embeds_as_the_model_did(weights, tmp_path):
    path = tmp_path / "model.npz"
    write_packed(path, weights)
    walk = np.random.default_rng(0).integers(0, 256, (9, 64, 44), np.uint8)
    expected = mcl_jax.Gait(weights).embed(walk)
    gait = mcl_jax.load(path)
    np.testing.assert_allclose(gait.embed(walk), expected, atol=5e-3)
    assert gait.source == str(path)


def test_no_flipped_bit_gives_another_model(weights, tmp_path):
    path = tmp_path / "model.npz"
    write_packed(path, dataclasses.replace(weights, thresholds={0.01: 1.5}))
    content, sound = path.read_bytes(), read_packed(path)
    expected = (sound.block, sound.step, sound.thresholds)
    refused = 0
    for bit in np.random.default_rng(0).integers(0, 8 * len(content), 100).tolist():
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            found = read_packed(path)
        except CheckpointError:
            refused += 1
        else:
            assert (found.block, found.step, found.thresholds) == expected
            jax.tree.map(np.testing.assert_array_equal, found.params, sound.params)
            jax.tree.map(np.testing.assert_array_equal, found.batch_stats, sound.batch_stats)
    assert refused > 50


def test_damage_is_told(weights, tmp_path):
    path = tmp_path / "model.npz"
    write_packed(path, weights)
    with np.load(path) as file:
        arrays = dict(file)
    arrays["params/worth"] = arrays["params/worth"] + 1
    np.savez(path, **arrays)
    with pytest.raises(CheckpointError, match="its content has changed"):
        read_packed(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match="not a readable"):
        read_packed(path)
    for about in (b"[]", b"{", b'{"format": 2, "block": {}, "step": 1, "digest": ""}'):
        np.savez(path, about=np.frombuffer(about, np.uint8))
        with pytest.raises(CheckpointError, match="is not a packed model"):
            read_packed(path)
