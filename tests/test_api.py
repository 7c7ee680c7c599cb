"""The public API: results and errors."""

import pickle
import subprocess
import sys

import cv2
import jax
import numpy as np
import pytest

import mcl_jax
from mcl_jax.cli.commands.walk_argument import load_model
from mcl_jax.convert.importer import export_state_dict
from mcl_jax.convert.torch_writer import write_torch_file
from mcl_jax.errors import CheckpointError, ConfigError, DataError
from mcl_jax.exporting.embedding_function import embedding_program
from mcl_jax.exporting.writer import export
from mcl_jax.models.registry import Weights, create_model
from mcl_jax.weights.load import load_weights
from mcl_jax.weights.model_file import write_model


@pytest.fixture(scope="module")
def gait(toy_run):
    return mcl_jax.load(toy_run)


@pytest.fixture(scope="module")
def walks() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (length, 64, 64), np.uint8) for length in (5, 300, 1, 17)]


def test_the_names_are_there_and_importing_them_is_lazy():
    code = "import sys, mcl_jax; print({'jax', 'flax', 'numpy', 'matplotlib'} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "set()"
    assert all(getattr(mcl_jax, name).__doc__ for name in mcl_jax.__all__)
    assert set(mcl_jax.__all__) <= set(dir(mcl_jax))
    with pytest.raises(AttributeError, match="has no attribute 'lode'"):
        mcl_jax.lode  # noqa: B018 - the look-up is the test


def test_a_run_says_what_it_is(gait, toy_run):
    assert (gait.name, gait.parts, gait.channels, gait.step) == ("gaitbase", 16, 3, 3)
    sizes = {"channels": (2, 2, 3, 3), "embed_dim": 3, "num_classes": 3}
    defaults = {"layers": (1, 1, 1, 1), "strides": (1, 2, 2, 1), "max_pool": False, "bins": (16,)}
    assert gait.arguments == sizes | defaults | {"backbone": "resnet9"}
    shown = repr(gait)
    for text in ("gaitbase", "16 parts × 3 channels", f"{gait.parameters:,}", "3 steps", str(toy_run)):
        assert text in shown
        assert text in gait._repr_html_()


@pytest.mark.slow
def test_embeddings_are_in_order_whatever_the_lengths(gait, walks):
    together = gait.embed(walks)
    assert (together.shape, together.dtype) == ((4, 16, 3), np.float32)
    for walk, embedding in zip(walks[1:3], together[1:3], strict=True):
        assert gait.embed(walk)[0] == pytest.approx(embedding, rel=1e-4, abs=1e-5)
        assert gait.embed([walk[:, :, 10:54]])[0] == pytest.approx(embedding, rel=1e-4, abs=1e-5)
    assert gait.embed([]).shape == (0, 16, 3)


@pytest.mark.slow
def test_frames_beyond_the_720th_do_not_count(gait, walks):
    long = np.concatenate([walks[1]] * 3)
    assert np.array_equal(gait.embed(long), gait.embed(long[:720]))


def test_a_model_of_parsing_maps_takes_no_silhouettes(toy_run, walks):
    gait = mcl_jax.load(toy_run)
    gait.recipe = {"data": {"dataset": "gait3d_parsing"}}
    for use in (lambda: gait.embed(walks), lambda: gait.program(embedding_program)):
        with pytest.raises(
            ConfigError, match="trained on the parsing maps of gait3d_parsing, and this takes"
        ):
            use()


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> mcl_jax.Gait:
    """A model of frames of 128×88."""
    sizes = {"backbone": "plain", "channels": (2, 2, 2, 3), "bins": (2, 1), "embed_dim": 3, "num_classes": 2}
    model = create_model("gaitbase", sizes, dtype="float32")
    rng = np.random.default_rng(0)
    arrays = jax.tree.map(lambda x: rng.uniform(-0.2, 1, x.shape).astype(np.float32) ** 2, model.shapes())
    path = tmp_path_factory.mktemp("large") / "model.safetensors"
    write_model(path, Weights(model.block, *arrays, 0, ""))
    return mcl_jax.load(path)


def test_frames_of_another_size_than_the_model_takes_are_refused(large, people, walks, tmp_path):
    assert large.frame_shape == (128, 88)
    with pytest.raises(DataError, match=r"walk 0: array of shape .*; expected \[frames, 128, 128 or 88\]"):
        large.embed(walks)
    (tmp_path / "walk.pkl").write_bytes(pickle.dumps(walks[3]))
    with pytest.raises(DataError, match=r"walk\.pkl: array of shape .*; expected \[frames, 128, 128 or 88\]"):
        large.embed(tmp_path / "walk.pkl")
    (tmp_path / "walk.mp4").write_bytes(b"")
    with pytest.raises(DataError, match=r"walk\.mp4: is taken for a video, .* this model takes 128; give"):
        large.embed(tmp_path / "walk.mp4")
    partition = people.parent / f"{people.name}_partition.json"
    split = mcl_jax.open_dataset("walkers", people, partition=partition).test_split()
    with pytest.raises(ConfigError, match="has frames of 64×44, but this gaitbase takes 128×88; choose"):
        large.embed_split(split)
    with pytest.raises(ConfigError, match="takes frames of 128×88, but walks here are 64×44; use"):
        load_model(large.source)


@pytest.mark.slow
def test_larger_frames_are_embedded_from_arrays_files_and_masks(large, walks, tmp_path):
    whole = [walk.repeat(2, axis=1).repeat(2, axis=2) for walk in (walks[0], walks[3])]
    together = large.embed(whole)
    assert together.shape == (2, 3, 3)
    for walk, embedding in zip(whole, together, strict=True):
        assert large.embed(walk[:, :, 20:108])[0] == pytest.approx(embedding, rel=1e-4, abs=1e-5)
    (tmp_path / "walk.pkl").write_bytes(pickle.dumps(whole[0]))
    assert np.array_equal(large.embed(tmp_path / "walk.pkl"), large.embed(whole[0]))
    folder = tmp_path / "masks"
    folder.mkdir()
    mask = np.zeros((200, 160), np.uint8)
    mask[20:180, 60:100] = 255
    cv2.imwrite(str(folder / "0.png"), mask)
    expected = np.zeros((1, 128, 128), np.uint8)
    expected[:, :, 48:80] = 255
    assert np.array_equal(large.embed(folder), large.embed(expected))
    for form in ("onnx", "stablehlo"):
        export(large, tmp_path / f"model.{form}", format=form)


def test_paths_are_walks_too(gait, walks, tmp_path):
    (tmp_path / "walk.pkl").write_bytes(pickle.dumps(walks[3]))
    assert np.array_equal(gait.embed(tmp_path / "walk.pkl"), gait.embed(walks[3]))
    assert np.array_equal(gait.embed(str(tmp_path)), gait.embed(walks[3]))  # the folder it lies in


def test_frames_are_prepared_on_the_way(gait, real_silhouettes):
    sequence = sorted((real_silhouettes / "png").glob("*/*/*"))[0]
    prepared = real_silhouettes / "pkl" / sequence.relative_to(real_silhouettes / "png")
    assert np.array_equal(gait.embed(sequence), gait.embed(prepared))


@pytest.mark.parametrize(
    ("walk", "message"),
    [
        (np.zeros((0, 64, 64), np.uint8), "walk 0: the sequence is empty"),
        (np.zeros((3, 64, 64), np.float32), "walk 0: frames are float32; expected uint8"),
        (
            np.zeros((3, 32, 32), np.uint8),
            r"walk 0: array of shape \[3, 32, 32\]; expected \[frames, 64, 64 or 44\]",
        ),
        (7, "walk 0: is a int; expected silhouettes"),
        ("/nowhere", "/nowhere: no such file or folder"),
    ],
)
def test_walks_that_cannot_be_embedded_are_named(gait, walk, message):
    with pytest.raises(DataError, match=message):
        gait.embed([walk])


def test_folders_without_a_person_are_named(gait, tmp_path):
    with pytest.raises(DataError, match="no PNG frame in it"):
        gait.embed(tmp_path)
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((90, 90), np.uint8))
    with pytest.raises(DataError, match="0 of 1 PNG frame can be used .*no person is visible"):
        gait.embed(tmp_path)
    (tmp_path / "video.mp4").write_bytes(b"mp4")
    with pytest.raises(DataError, match="video.mp4: "):
        gait.embed(tmp_path / "video.mp4")


def test_a_split_is_embedded_and_scored_as_testing_does(gait, toy_run, people):
    partition = people.parent / f"{people.name}_partition.json"
    dataset = mcl_jax.open_dataset("walkers", people, partition=partition)
    embedded = gait.embed_split(dataset.test_split())
    tested = mcl_jax.EmbeddingSet.load(toy_run / "test" / "embeddings.npz")
    assert embedded.keys() == tested.keys()
    assert np.array_equal(embedded.embeddings, tested.embeddings)
    title, *figures = mcl_jax.score(embedded, "casiab").table.splitlines()
    title_of_test, *figures_of_test = (toy_run / "test" / "table.txt").read_text().splitlines()
    assert figures == figures_of_test[: len(figures)]  # below them it says where they come from
    # The test knows whose walks they are.
    assert (title.split(",")[0], title_of_test.split(",")[0]) == ("CASIA-B", "Synthetic people")


def test_a_pytorch_file_needs_no_config(gait, toy_run, walks, tmp_path):
    weights = load_weights(toy_run)
    state_dict = export_state_dict(weights.params, weights.batch_stats, model="gaitbase", steps=3)
    write_torch_file(tmp_path / "x.pt", {"model": state_dict, "iteration": 3})
    loaded = mcl_jax.load(tmp_path / "x.pt")
    assert (loaded.arguments, loaded.step) == (gait.arguments, 3)
    assert np.array_equal(loaded.embed(walks[0]), gait.embed(walks[0]))


@pytest.mark.slow
def test_precision_and_the_other_embedding_are_choices(gait, toy_run, walks, tmp_path):
    half = mcl_jax.load(toy_run, precision="bfloat16").embed(walks[0])
    assert half.dtype == np.float32
    full = gait.embed(walks[0])
    assert not np.array_equal(half, full)
    assert (half * full).sum() / (np.linalg.norm(half) * np.linalg.norm(full)) > 0.99
    with pytest.raises(ConfigError, match="precision: no 'float64'; there are float32, bfloat16, float16"):
        mcl_jax.load(toy_run, precision="float64")
    with pytest.raises(ConfigError, match="use_emb2: gaitbase has no other embedding to choose"):
        mcl_jax.load(toy_run, use_emb2=True)


def test_the_bnneck_feature_of_deepgaitv2(shared_parity, walks):
    path = shared_parity / "deepgaitv2_2d.pt"
    plain, neck = mcl_jax.load(path), mcl_jax.load(path, use_emb2=True)
    assert neck.embed(walks[0]).shape == plain.embed(walks[0]).shape
    assert np.linalg.norm(neck.embed(walks[0]), axis=-1) == pytest.approx(1, rel=1e-5)


def test_what_is_no_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere: no such run or checkpoint file"):
        mcl_jax.load(tmp_path / "nowhere")
    (tmp_path / "x.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="x.pt: is not a PyTorch checkpoint"):
        mcl_jax.load(tmp_path / "x.pt")


def test_overrides_that_there_are_not_are_named(tmp_path):
    with pytest.raises(ConfigError, match="overrides: there is no config key 'model.chanels'"):
        mcl_jax.train("walkers_mcl", tmp_path / "run", overrides={"model.chanels": (1,)})
    with pytest.raises(ConfigError, match="no recipe"):
        mcl_jax.train("walkers", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_overrides_leave_the_config_that_was_given_as_it_was(tmp_path):
    config = mcl_jax.load_config("walkers_triplet")
    with pytest.raises(ConfigError, match="train.steps: is -1"):
        mcl_jax.train(config, tmp_path / "run", overrides={"loss.mcl.weight": 1, "train.steps": -1})
    assert config.to_dict() == mcl_jax.load_config("walkers_triplet").to_dict()


def test_distances_of_single_embeddings_are_numbers():
    x = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)
    whole = mcl_jax.distances(x, x)
    assert whole.shape == (3, 3)
    single = mcl_jax.distances(x[0], x[1])
    assert np.ndim(single) == 0
    assert float(single) == whole[0, 1] == pytest.approx(np.linalg.norm(x[0] - x[1], axis=1).mean())
    assert np.array_equal(mcl_jax.distances(x[0], x), whole[0])
    assert np.array_equal(mcl_jax.distances(x, x[0]), whole[:, 0])
    with pytest.raises(
        DataError, match=r"distances: shapes \[4\] and \[3, 2, 4\]; expected \[parts, channels\]"
    ):
        mcl_jax.distances(x[0, 0], x)
