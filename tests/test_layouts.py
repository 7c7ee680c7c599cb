"""GREW, Gait3D and HID from config to result: synthetic people in their layouts, as a tree and as records."""

import json
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

import mcl_jax
from mcl_jax.config import load_config, validate
from mcl_jax.data.datasets import download_of
from mcl_jax.data.prepare.preparation import prepare_dataset
from mcl_jax.describe import describe
from mcl_jax.errors import ConfigError
from mcl_jax.evaluation.embeddings import EmbeddingSet
from mcl_jax.train_loop import train
from mcl_jax.walkers import write_walkers

VIEWS = ("054", "090")


@pytest.fixture(scope="module")
def walks(tmp_path_factory) -> Path:
    """A tree of 24 people, normal walks only."""
    root = tmp_path_factory.mktemp("walks") / "walkers"
    write_walkers(
        root, subjects=24, test_subjects=0, views=VIEWS, conditions=("nm-01", "nm-02"), frames=6, workers=1
    )
    return root


def copy(walks: Path, source: str, target: Path) -> None:
    """Copies one sequence, subject/condition/view, to another name."""
    (pickled,) = (walks / source).glob("*.pkl")
    target.mkdir(parents=True)
    shutil.copy(pickled, target / f"{target.name}.pkl")


def grew_layout(walks: Path, root: Path) -> None:
    """Three people to train on; 21 in the gallery, of whom one is a probe."""
    for subject in range(1, 4):
        for view in VIEWS:
            copy(walks, f"{subject:03d}/nm-01/{view}", root / f"{subject:05d}train" / "00" / view)
    for subject in range(1, 22):
        for condition, view in (("01", "054"), ("02", "090")):
            copy(walks, f"{subject + 3:03d}/nm-01/{view}", root / f"{subject:05d}" / condition / view)
    copy(walks, "004/nm-02/054", root / "probe" / "03" / "video7")


def gait3d_layout(walks: Path, root: Path) -> Path:
    """Three people to train on, three to test; returns the partition."""
    for subject in range(1, 7):
        for camera, view in enumerate(VIEWS):
            copy(
                walks,
                f"{subject:03d}/nm-01/{view}",
                root / f"{subject:04d}" / f"camid{camera}_videoid1" / "seq0",
            )
    partition = root.parent / "Gait3D.json"
    content = {
        "TRAIN_SET": ["0001", "0002", "0003"],
        "TEST_SET": ["0004", "0005", "0006"],
        "PROBE_SET": [f"000{s}-camid0_videoid1-seq0" for s in (4, 5, 6)],
    }
    partition.write_text(json.dumps(content))
    return partition


def toy_config(run: str, root: Path) -> ConfigDict:
    config = load_config(run)
    config.data.root, config.data.workers = str(root), 0
    config.model.channels, config.model.embed_dim = (2, 2, 3, 3), 3
    config.train.batch, config.train.steps, config.train.precision = (2, 2), 1, "float32"
    config.data.sampling.min_frames, config.data.sampling.max_frames = 2, 3
    validate(config)
    return config


@pytest.mark.slow
@pytest.mark.parametrize("file_format", ["tree", "records"])
def test_grew_ends_with_a_submission(walks, tmp_path, file_format):
    root = tmp_path / "tree"
    grew_layout(walks, root)
    config = toy_config("grew_mcl", root)
    if file_format == "records":
        prepare_dataset(download_of("grew"), root, tmp_path / "records", file_format="records")
        config.data.root, config.data.format = str(tmp_path / "records"), "records"
    train(config, tmp_path / "run")
    written = tmp_path / "run" / "test"
    header, *rows = (written / "submission.csv").read_text().splitlines()
    assert header == "videoId," + ",".join(f"rank{k}" for k in range(1, 21))
    (row,) = rows
    name, *subjects = row.split(",")
    assert name == "video7"
    assert len(subjects) == 20
    assert {int(s) for s in subjects} <= set(range(1, 22))
    with zipfile.ZipFile(written / "submission.zip") as archive:
        assert archive.namelist() == ["submission.csv"]


@pytest.mark.slow
def test_gait3d_is_scored_by_its_probe_set(walks, tmp_path):
    root = tmp_path / "tree"
    config = toy_config("gait3d_mcl", root)
    config.data.partition = str(gait3d_layout(walks, root))
    report = train(config, tmp_path / "run")
    assert set(report["scores"]["all"]) == {"Rank-1", "Rank-5", "Rank-10", "mAP", "mINP"}
    assert report["counts"]["probes"] == {"all": 3}
    assert report["scores"]["all"]["Rank-5"] == 100  # of a gallery of three
    embeddings = EmbeddingSet.load(tmp_path / "run" / "test" / "embeddings.npz")
    assert embeddings.embeddings.shape == (6, 16, 3)
    assert np.isfinite(embeddings.embeddings).all()


def hid_layout(walks: Path, root: Path) -> Path:
    """Three people to train on, two in the gallery, four probes; frames of 128×128; returns the partition."""
    for subject in range(1, 7):
        for view in VIEWS:
            (pickled,) = (walks / f"{subject:03d}" / "nm-01" / view).glob("*.pkl")
            name = "probe" if subject > 5 or (subject > 3 and view == VIEWS[1]) else f"{subject:05d}"
            target = root / name / "default" / f"{subject}{view}"
            target.mkdir(parents=True)
            frames = pickle.loads(pickled.read_bytes()).repeat(2, axis=1).repeat(2, axis=2)
            (target / "0.pkl").write_bytes(pickle.dumps(frames))
    partition = root.parent / "HID.json"
    content = {"TRAIN_SET": ["00001", "00002", "00003"], "TEST_SET": ["00004", "00005", "probe"]}
    partition.write_text(json.dumps(content))
    return partition


@pytest.mark.slow
def test_hid_trains_on_its_larger_frames_and_ends_with_a_submission(walks, tmp_path):
    root = tmp_path / "tree"
    config = toy_config("hid_triplet", root)
    config.data.partition, config.data.sampling.frames = str(hid_layout(walks, root)), 3
    config.train.steps = 2
    assert "4 sequences in 4 rows of 3 frames of 128 × 88" in describe(config)
    train(config, tmp_path / "run")
    header, *rows = (tmp_path / "run" / "test" / "submission.csv").read_text().splitlines()
    assert header == "videoID,label"
    assert {row.split(",")[0] for row in rows} == {"4090", "5090", "6054", "6090"}
    assert {row.split(",")[1] for row in rows} <= {"00004", "00005"}
    gait = mcl_jax.load(tmp_path / "run")
    assert (gait.parts, gait.frame_shape) == (31, (128, 88))
    split = mcl_jax.open_dataset("hid_128", root, partition=config.data.partition).test_split()
    embeddings = EmbeddingSet.load(tmp_path / "run" / "test" / "embeddings.npz").embeddings
    np.testing.assert_allclose(gait.embed_split(split).embeddings, embeddings, rtol=1e-5, atol=1e-6)
    config.train.steps, config.init_from = 3, str(tmp_path / "run")
    config.data.dataset, config.model.backbone, config.model.bins = "hid", "resnet9", (16,)
    validate(config)
    with pytest.raises(ConfigError, match="hid has frames of 64×44, but this gaitbase takes 128×88; choose"):
        train(config, tmp_path / "other")


def as_maps(walks: Path, root: Path) -> None:
    """Copies a tree of silhouettes twice: as maps with 1 for white, and as silhouettes without greys."""
    for path in walks.rglob("*.pkl"):
        white = pickle.loads(path.read_bytes()) >= 128
        for name, value in (("maps", 1), ("silhouettes", 255)):
            target = root / name / path.relative_to(walks)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(pickle.dumps(np.where(white, np.uint8(value), np.uint8(0))))


@pytest.mark.slow
def test_a_map_of_ones_trains_and_tests_as_the_silhouettes_of_255(walks, tmp_path):
    tree = tmp_path / "tree"
    partition = gait3d_layout(walks, tree)
    as_maps(tree, tmp_path)
    found = {}
    for name, dataset in (("maps", "gait3d_parsing"), ("silhouettes", "gait3d")):
        config = toy_config("gait3d_parsing_triplet", tmp_path / name)
        config.data.dataset, config.data.partition = dataset, str(partition)
        train(config, tmp_path / f"run-{name}")
        found[name] = EmbeddingSet.load(tmp_path / f"run-{name}" / "test" / "embeddings.npz").embeddings
    np.testing.assert_allclose(found["maps"], found["silhouettes"], rtol=1e-5, atol=1e-6)
    gait = mcl_jax.load(tmp_path / "run-maps")
    split = mcl_jax.open_dataset("gait3d_parsing", tmp_path / "maps", partition=partition).test_split()
    np.testing.assert_allclose(gait.embed_split(split).embeddings, found["maps"], rtol=1e-5, atol=1e-6)
    with pytest.raises(ConfigError, match="trained on the parsing maps of gait3d_parsing, and this takes"):
        gait.embed(np.full((3, 64, 44), 255, np.uint8))
