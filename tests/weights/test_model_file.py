"""A model as safetensors, as a folder with a card, and on the Hub."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from hub_server import running_hub

import mcl_jax
from mcl_jax.cli.program import run
from mcl_jax.convert.importer import load_checkpoint
from mcl_jax.convert.safetensors_reader import read_safetensors
from mcl_jax.convert.safetensors_writer import write_safetensors
from mcl_jax.errors import CheckpointError, ConfigError
from mcl_jax.models.registry import Weights
from mcl_jax.utils.pytrees import leaves_by_name
from mcl_jax.weights.card import licence_of
from mcl_jax.weights.load import load_weights
from mcl_jax.weights.model_file import read_model, write_model
from mcl_jax.weights.provenance import plain_recipe


@pytest.fixture(scope="module")
def gait(toy_run):
    return mcl_jax.load(toy_run)


def same_numbers(one: Weights, other: Weights) -> bool:
    pairs = ((one.params, other.params), (one.batch_stats, other.batch_stats))
    return all(
        np.array_equal(leaves_by_name(a)[name], leaf)
        for a, b in pairs
        for name, leaf in leaves_by_name(b).items()
    )


def test_tensors_come_back_aligned_and_with_their_notes(tmp_path):
    tensors = {
        "bytes": np.arange(3, dtype=np.uint8),
        "numbers": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "count": np.array(7, np.int64),
        "none": np.empty((0, 4), np.float16),
    }
    write_safetensors(tmp_path / "x.safetensors", tensors, {"what": "a test"})
    found, notes = read_safetensors(tmp_path / "x.safetensors")
    assert notes == {"what": "a test"}
    assert {name: (a.dtype, a.shape, a.tolist()) for name, a in found.items()} == {
        name: (a.dtype, a.shape, a.tolist()) for name, a in tensors.items()
    }
    content = (tmp_path / "x.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert length % 8 == 0
    offsets = {name: header[name]["data_offsets"] for name in tensors}
    assert all(offsets[name][0] % tensors[name].itemsize == 0 for name in tensors)
    assert sorted(offset for span in offsets.values() for offset in span)[-1] == len(content) - 8 - length
    with pytest.raises(TypeError, match="safetensors has no complex64"):
        write_safetensors(tmp_path / "y.safetensors", {"x": np.zeros(1, np.complex64)}, {})


def test_a_saved_model_is_the_model(gait, toy_run, tmp_path):
    path = tmp_path / "m.safetensors"
    gait.save(path)
    again = mcl_jax.load(path)
    assert (again.name, again.arguments, again.step) == (gait.name, gait.arguments, gait.step)
    assert again.digest == gait.digest
    assert again.recipe == gait.recipe
    assert again.recipe["loss"].keys() == {"mcl", "cross_entropy"}
    assert again.recipe["data"]["root"] == "", "paths of a machine are nobody's business"
    assert same_numbers(load_weights(path), load_weights(toy_run))
    gait.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    with pytest.raises(ConfigError, match=r"m\.pt: give a name that ends in \.safetensors"):
        gait.save(tmp_path / "m.pt")


def test_thresholds_are_kept(toy_run, tmp_path):
    weights = dataclasses.replace(load_weights(toy_run), thresholds={0.01: 1.5, 0.1: 2.0})
    write_model(tmp_path / "m.safetensors", weights)
    assert read_model(tmp_path / "m.safetensors").thresholds == {0.01: 1.5, 0.1: 2.0}


def test_no_flipped_bit_gives_another_model(gait, tmp_path):
    path = tmp_path / "m.safetensors"
    gait.save(path)
    content, sound = path.read_bytes(), load_weights(path)
    refused = 0
    for bit in np.random.default_rng(0).integers(0, 8 * len(content), 60).tolist():
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            found = load_weights(path)
        except CheckpointError:
            refused += 1
            continue
        assert found.block == sound.block, "a space between two words of the header, say"
        assert same_numbers(found, sound)
    assert refused > 50
    path.write_bytes(content[:-1])
    with pytest.raises(CheckpointError, match=r"m\.safetensors: is not a safetensors file, or damaged"):
        mcl_jax.load(path)


def test_opengait_weights_as_safetensors(toy_run, tmp_path):
    from mcl_jax.convert.runs import export_weights

    weights = load_weights(toy_run)
    for name in ("m.pt", "m.safetensors"):
        export_weights(weights, tmp_path / name)
    as_torch, as_safetensors = (load_checkpoint(tmp_path / name) for name in ("m.pt", "m.safetensors"))
    assert as_safetensors.iteration == as_torch.iteration == 3
    assert as_safetensors.state_dict.keys() == as_torch.state_dict.keys()
    assert all(np.array_equal(a, as_torch.state_dict[name]) for name, a in as_safetensors.state_dict.items())
    assert read_safetensors(tmp_path / "m.safetensors")[1]["format"] == "pt"
    assert same_numbers(load_weights(tmp_path / "m.safetensors"), weights)
    again = tmp_path / "again.safetensors"
    assert run(["convert", "--to-torch", f"--ckpt={tmp_path / 'm.pt'}", f"--out={again}"]) == 0
    assert again.read_bytes() == (tmp_path / "m.safetensors").read_bytes()


def test_thousands_of_digits_are_no_number_of_steps(tmp_path):
    path = tmp_path / "m.safetensors"
    write_safetensors(path, {"w": np.zeros(1, np.float32)}, {"format": "pt", "iteration": "9" * 5000})
    with pytest.raises(CheckpointError, match=r"m\.safetensors: "):
        load_checkpoint(path)


def test_a_folder_for_others_has_a_card_made_from_the_run(gait, toy_run, tmp_path):
    gait.save_pretrained(tmp_path / "model")
    assert mcl_jax.load(tmp_path / "model").digest == gait.digest
    card = (tmp_path / "model" / "README.md").read_text()
    metrics = json.loads((toy_run / "test" / "metrics.json").read_text())
    for text in (
        "# gaitbase, trained on walkers",
        "3 steps",
        f"| NM | {metrics['scores']['NM']['Rank-1']:.2f} |",
        "Protocol `casiab`",
        "## Responsible use",
        "To be filled in",
        "train.steps = 3",
        gait.digest,
    ):
        assert text in card
    assert str(toy_run) not in card
    description = json.loads((tmp_path / "model" / "config.json").read_text())
    assert description["scores"] == metrics["scores"]
    with pytest.raises(ConfigError, match=r"README\.md: is there already, and may have been filled in"):
        gait.save_pretrained(tmp_path / "model")


def test_a_recipe_keeps_no_path_of_a_protocol():
    for protocol, kept in (("/home/someone/hall.json", "hall.json"), ("casiab", "casiab"), ("", "")):
        assert plain_recipe({"eval": {"protocol": protocol}}) == {"eval": {"protocol": kept}}


def test_a_card_without_a_test_says_so(gait, toy_run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(toy_run, copy)
    metrics = copy / "test" / "metrics.json"
    metrics.write_text(metrics.read_text().replace(gait.digest, gait.digest[::-1]))
    mcl_jax.load(copy).save_pretrained(tmp_path / "model", licence="mit")
    card = (tmp_path / "model" / "README.md").read_text()
    assert "Not measured." in card
    assert licence_of(tmp_path / "model" / "README.md") == "mit"
    with pytest.raises(ConfigError, match="licence: 'all mine!' is no identifier"):
        gait.save_pretrained(tmp_path / "other", licence="all mine!")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "header", ["", "---\nlicense:\n---\n", "---\n- a list\n---\n", "---\nlicense: 3\n---\n"]
)
def test_a_card_without_a_licence_is_not_uploaded(gait, tmp_path, header):
    (tmp_path / "README.md").write_text(header + "text")
    with pytest.raises(ConfigError, match=r"README\.md: names no licence; fill in `license:` in its header"):
        gait.push_to_hub("me/model", folder=tmp_path)


def test_what_was_uploaded_is_loaded_from_there(gait, tmp_path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with running_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        with pytest.raises(ConfigError, match="names no licence"):
            gait.push_to_hub("me/model")
        with pytest.raises(ConfigError, match="is no OWNER/REPO"):
            gait.push_to_hub("model", licence="mit")
        assert gait.push_to_hub("me/model", licence="mit") == "hf://me/model"
        assert set(hub.uploaded) == {"README.md", "config.json", "model.safetensors"}
        hub.files |= {f"me/model/{path}": content for path, content in hub.uploaded.items()}
        assert mcl_jax.load("hf://me/model").digest == gait.digest
        hub.asked.clear()
        with pytest.raises(CheckpointError, match=r"hf://me/other/model\.safetensors: there is no "):
            mcl_jax.load("hf://me/other")
