import dataclasses
import runpy
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import mcl_jax
from mcl_jax.errors import CheckpointError
from mcl_jax.models.model import Weights, create_model
from mcl_jax.packed_weights import read_packed, write_packed
from mcl_jax.walkers import render_sequence, write_walkers

PACK_MODEL = Path(__file__).resolve().parents[1] / "scripts" / "pack_model.py"

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


def test_damage_is_told(weights, tmp_path):
    path = tmp_path / "model.npz"
    write_packed(path, weights)
    with np.load(path) as file:
        arrays = dict(file)
    arrays["params/worth"] = arrays["params/worth"] + 1
    np.savez(path, **arrays)
    with pytest.raises(CheckpointError, match="it does not hold what was written"):
        read_packed(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match="not a readable"):
        read_packed(path)
    for about in (b"[]", b"{", b'{"format": 2, "block": {}, "step": 1, "digest": ""}'):
        np.savez(path, about=np.frombuffer(about, np.uint8))
        with pytest.raises(CheckpointError, match="is no model of ours"):
            read_packed(path)


def test_several_runs_become_one_model_whose_distance_is_the_mean_of_theirs(weights, tmp_path, monkeypatch):
    """Whitened, packed and joined by scripts/pack_model.py; each member has its own whitening."""
    trees = {name: tmp_path / name for name in ("troubled", "clean")}
    for seed, tree in enumerate(trees.values()):
        write_walkers(tree, subjects=6, test_subjects=6, views=("090",), frames=4, seed=seed)
    runs = [tmp_path / f"run{seed}.npz" for seed in range(2)]
    for seed, run in enumerate(runs):
        arrays = jax.device_get(create_model("gaitpocket", SIZES, dtype="float32").initial_arrays(seed))
        write_packed(run, dataclasses.replace(weights, params=arrays[0], batch_stats=arrays[1]))
    walk = render_sequence(9, 0, "nm-01", "090", 5), render_sequence(9, 1, "nm-01", "090", 5)
    found = []
    for chosen in ([runs[0]], [runs[1]], runs):
        out = tmp_path / "packed.npz"
        flags = [
            "--whitening",
            str(trees["troubled"]),
            "--thresholds",
            str(trees["clean"]),
            "--out",
            str(out),
        ]
        monkeypatch.setattr(sys, "argv", ["pack_model.py", *map(str, chosen), *flags])
        assert runpy.run_path(str(PACK_MODEL))["main"]() == 0
        gait = mcl_jax.load(out)
        found.append(mcl_jax.distances(*(gait.embed(frames) for frames in walk))[0, 0])
        assert len(gait.thresholds) > 0
    assert (gait.name, gait.parts) == ("gaitpockets", 32)
    np.testing.assert_allclose(found[2], np.mean(found[:2]), rtol=1e-4)
    assert found[0] != pytest.approx(found[1], rel=1e-3)
