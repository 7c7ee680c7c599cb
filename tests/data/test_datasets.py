"""One entry defines a dataset, also from outside the package."""

import pickle

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from mcl_jax.cli.program import run_command
from mcl_jax.data.datasets import DATASETS, Dataset, download_of, downloads, open_dataset
from mcl_jax.data.feed.loaders import SequenceLoader
from mcl_jax.data.prepare.frame_file import read_frame
from mcl_jax.data.prepare.layouts import Layout
from mcl_jax.data.prepare.preparation import prepare_dataset
from mcl_jax.data.prepare.silhouette import keep
from mcl_jax.data.sequences import Partition, SequenceRef
from mcl_jax.data.stores.tree import subfolders
from mcl_jax.errors import DataError
from mcl_jax.evaluation.protocols import PROTOCOLS


def scan_flat(src):
    """Folders called SUBJECT_VIEW."""
    for folder in subfolders(src):
        subject, view = folder.name.split("_")
        yield SequenceRef(subject, "00", view, folder.path)


TOY = Dataset(
    protocol="casiab",
    partition=Partition(train=("anna",), test=("ben",)),
    layout=Layout(scan_flat, "<subject>_<view>/*.png", to_silhouette=keep),
    description="Two people.",
)


def write_png(path, value=7):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.zeros((64, 64), np.uint8)
    image[:, 20:40] = 200 + value
    assert cv2.imwrite(str(path), image)


@pytest.mark.parametrize("file_format", ["pkl", "records"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_dataset_from_outside_the_package_is_prepared_and_opened(
    tmp_path, monkeypatch, file_format, workers
):
    monkeypatch.setitem(DATASETS, "toy", TOY)
    for number, name in enumerate(("anna_000", "anna_090", "ben_000")):
        write_png(tmp_path / "raw" / name / "1.png", number)
    out = tmp_path / "out"
    prepare_dataset(download_of("toy"), tmp_path / "raw", out, file_format=file_format, workers=workers)
    dataset = open_dataset("toy", out)
    assert [s.key for s in dataset.train_split().sequences] == ["anna/00/000", "anna/00/090"]
    (test,) = dataset.test_split().sequences
    assert dataset.source.read(test)[:].max() == 202
    if file_format == "records":
        assert tfds.builder_from_directory(str(out)).info.description == "Two people."


def test_every_dataset_has_a_protocol_a_layout_and_a_description():
    assert {entry.protocol for entry in DATASETS.values()} <= PROTOCOLS.keys()
    assert downloads().keys() == DATASETS.keys() | {"tree"}
    assert all(download.name.isidentifier() and download.description for download in downloads().values())


def test_oumvlp_is_rearranged(tmp_path, caplog):
    for folder in ("Silhouette_000-00", "Silhouette_270-01", "Silhouette_extra"):
        write_png(tmp_path / "raw" / folder / "00001" / "0001.png", 55)
    prepare_dataset(download_of("oumvlp"), tmp_path / "raw", tmp_path / "out")
    (tmp_path / "OUMVLP.json").write_text('{"TRAIN_SET": ["00001"], "TEST_SET": []}')
    dataset = open_dataset("oumvlp", tmp_path / "out", partition=tmp_path / "OUMVLP.json")
    assert [s.key for s in dataset.train_split().sequences] == ["00001/00/000", "00001/01/270"]
    assert "Silhouette_extra" in caplog.text


def walker(size: int) -> np.ndarray:
    """A person of full height, one side white and the other of a grey that tells it from that."""
    image = np.zeros((size, size), np.uint8)
    image[:, size // 3 : size // 2] = 255
    image[:, size // 2 : 2 * size // 3] = 200
    return image


def write_frames(folder, count, image, ending="png"):
    folder.mkdir(parents=True)
    for i in range(count):
        assert cv2.imwrite(str(folder / f"{i}.{ending}"), image)


def test_casiae_is_rearranged_and_short_walks_are_left_out(tmp_path):
    for name, count in (("H/scene1/nm/000/1", 6), ("L/scene3_s/bg/090/2", 7), ("L/scene3_s/bg/090/1", 5)):
        write_frames(tmp_path / "raw" / "forTrain" / "201" / name, count, walker(128), "jpg")
    summary = prepare_dataset(download_of("casiae"), tmp_path / "raw", tmp_path / "out")
    dataset = open_dataset("casiae", tmp_path / "out")
    first, second = dataset.test_split().sequences
    assert (first.key, second.key) == ("201/H-scene1-nm-1/000", "201/L-scene3_s-bg-2/090")
    assert (summary.sequences, summary.skipped_sequences) == (2, 1)
    assert "5 frames, fewer than the minimum of 6" in (tmp_path / "out" / "skipped.csv").read_text()
    stored = tmp_path / "raw" / "forTrain" / "201" / "H" / "scene1" / "nm" / "000" / "1" / "0.jpg"
    expected = cv2.resize(cv2.imread(str(stored), cv2.IMREAD_GRAYSCALE), (64, 64))
    np.testing.assert_array_equal(dataset.source.read(first)[0], expected)
    conditions = {s.condition for s in dataset.sequences}
    known = PROTOCOLS["casiae"]
    assert conditions <= {
        *known.gallery,
        *known.unused,
        *(c for names in known.probes.values() for c in names),
    }


def test_hid_is_rearranged_with_probes_identified_by_view(tmp_path, caplog):
    for name in ("train/0000/02", "HID2022_test_gallery/0501/00", "HID2022_test_probe/108558", "extra/1/1"):
        write_frames(tmp_path / "raw" / name, 2, walker(128))
    prepare_dataset(download_of("hid"), tmp_path / "raw", tmp_path / "out")
    (tmp_path / "HID.json").write_text('{"TRAIN_SET": ["0000"], "TEST_SET": ["0501", "probe"]}')
    dataset = open_dataset("hid", tmp_path / "out", partition=tmp_path / "HID.json")
    assert [s.key for s in dataset.train_split().sequences] == ["0000/default/02"]
    assert [s.key for s in dataset.test_split().sequences] == ["0501/default/00", "probe/default/108558"]
    frames = dataset.source.read(dataset.train_split().sequences[0])
    # Halved, so a column is the mean of two: the borders at 42 and 85 of 128 lie within columns of 64.
    assert frames.shape == (2, 64, 64)
    assert frames[0, 5, [20, 21, 31, 32, 41, 42, 43]].tolist() == [0, 255, 255, 200, 200, 100, 0]
    assert "extra" in caplog.text


def test_ccpg_is_scaled_by_areas_and_faint_people_are_kept(tmp_path):
    image = walker(128)
    image[:, :42] = image[:, 85:] = 0
    write_frames(tmp_path / "raw" / "100" / "U0_D0" / "01_0", 1, image)
    write_frames(tmp_path / "raw" / "000" / "U0_D0" / "02", 1, image[::32, ::32])  # 4 × 4 pixels
    (tmp_path / "raw" / "100" / "U0_D0" / "01_0" / "0.jpg").write_bytes(b"the picture, which is not read")
    prepare_dataset(download_of("ccpg"), tmp_path / "raw", tmp_path / "out")
    dataset = open_dataset("ccpg", tmp_path / "out")
    (test,) = dataset.test_split().sequences
    frame = dataset.source.read(test)[0]
    # Column 31 of 64 is the first past half of the mass, and becomes column 32.
    row = np.zeros(64, int)
    row[21:32], row[32:42], row[42] = 255, 200, 100
    mass = np.cumsum(row)
    centre = int(np.argmax(2 * mass > mass[-1]))
    np.testing.assert_array_equal(frame[7], np.roll(row, 32 - centre))
    assert [s.key for s in dataset.train_split().sequences] == ["000/U0_D0/02"]


def write_walk(root, key, frames):
    folder = root / key
    folder.mkdir(parents=True)
    (folder / "a.pkl").write_bytes(pickle.dumps(frames))


@pytest.mark.parametrize("file_format", ["tree", "records"])
def test_parsing_maps_are_read_as_they_are_and_silhouettes_are_not_taken_for_them(tmp_path, file_format):
    maps = np.zeros((3, 64, 64), np.uint8)
    maps[:, :, 20:40] = np.arange(20) % 12
    for subject, frames in (
        ("1", maps),
        ("2", np.where(maps > 0, np.uint8(255), np.uint8(0))),
        ("3", 0 * maps),
    ):
        write_walk(tmp_path / "tree", f"{subject}/c/v", frames)
    (tmp_path / "p.json").write_text('{"TRAIN_SET": ["1"], "TEST_SET": ["2", "3"], "PROBE_SET": []}')
    root = tmp_path / "tree"
    if file_format == "records":
        prepare_dataset(
            download_of("gait3d_parsing"),
            root,
            tmp_path / "records",
            file_format="records",
            skip_damaged=True,
        )
        root = tmp_path / "records"
        assert run_command("check", [str(root)]) == 0
        assert len((tmp_path / "records" / "skipped.csv").read_text().splitlines()) == 1 + 2
    dataset = open_dataset("gait3d_parsing", root, partition=tmp_path / "p.json")
    split = dataset.train_split()
    assert split.one == 1
    np.testing.assert_array_equal(dataset.source.read(split.sequences[0])[:], maps)
    if file_format == "tree":
        silhouettes, nothing = dataset.test_split().sequences
        with pytest.raises(
            DataError, match="brightest pixel is 255, so these are silhouettes and no parsing"
        ):
            dataset.source.read(silhouettes)
        with pytest.raises(DataError, match="all pixels are 0; expected parsing maps"):
            dataset.source.read(nothing)
    assert open_dataset("walkers", tmp_path / "tree", partition=tmp_path / "p.json").train_split().one == 255


@pytest.mark.parametrize("file_format", ["pkl", pytest.param("records", marks=pytest.mark.slow)])
def test_hid_is_prepared_and_read_in_frames_of_two_sizes(tmp_path, file_format):
    for part, name in (("train", "00001"), ("gallery", "00002"), ("probe", "")):
        folder = tmp_path / "raw" / part / name / "v"
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / "1.png"), np.pad(np.full((96, 30), 255, np.uint8), ((0, 0), (33, 33))))
    (tmp_path / "p.json").write_text('{"TRAIN_SET": ["00001"], "TEST_SET": ["00002", "probe"]}')
    for name, size in (("hid", 64), ("hid_128", 128)):
        out = tmp_path / name
        prepare_dataset(download_of(name), tmp_path / "raw", out, file_format=file_format)
        split = open_dataset(name, out, partition=tmp_path / "p.json").train_split()
        assert split.source.read(split.sequences[0])[:].shape == (1, size, size)
        assert split.frame_shape == (size, size * 11 // 16)
        loaded = SequenceLoader(split.sequences, split.source, frame_shape=split.frame_shape)
        assert loaded.read(0).shape == (1, *split.frame_shape)
        assert loaded.nbytes == 720 * size * size * 11 // 16
    with pytest.raises(DataError, match=r"shape \[1, 128, 128\]; expected \[frames, 64, 64 or 44\]"):
        open_dataset("hid", out, partition=tmp_path / "p.json").source.read(split.sequences[0])


def test_parsing_maps_are_not_made_of_raw_frames(tmp_path):
    write_frames(tmp_path / "raw" / "1" / "c" / "v", 1, walker(64))
    with pytest.raises(DataError, match=r"no sequence under .*; expected a pkl tree"):
        prepare_dataset(download_of("gait3d_parsing"), tmp_path / "raw", tmp_path / "out")


def test_records_of_a_tree_with_several_files_have_the_chosen_one(tmp_path):
    folder = tmp_path / "tree" / "100" / "U0_D0" / "01_0"
    folder.mkdir(parents=True)
    for name, value in (("aligned-sils", 255), ("sils", 254)):
        frames = np.zeros((3, 64, 64), np.uint8)
        frames[:, :, 20:40] = value
        (folder / f"01_0-{name}.pkl").write_bytes(pickle.dumps(frames))
    prepare_dataset(download_of("ccpg"), tmp_path / "tree", tmp_path / "a", file_format="records")
    arguments = ["ccpg", "--src", str(tmp_path / "tree"), "--format", "records", "--workers", "0", "--quiet"]
    assert run_command("prepare", [*arguments, "--out", str(tmp_path / "b"), "--file", "2"]) == 0
    for out, value in (("a", 255), ("b", 254)):
        dataset = open_dataset("ccpg", tmp_path / out)
        assert dataset.source.read(dataset.sequences[0])[:].max() == value


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "not a JPEG file"),
        (b"\xff\xd8\xff", "the JPEG is damaged or cut off"),
        (b"\xff\xd8\xff\xc2\x00\x0b\x08\x00\x40\x00\x40\x01" + bytes(9), "not a baseline JPEG"),
        (b"\xff\xd8\xff\xc0\x00\x0b\x08\xff\xff\xff\xff\x01" + bytes(9), "a JPEG of 65535×65535 pixels"),
        (b"\xff\xd8\xff\xc0\x00\x0b\x08\x00\x40\x00\x40\x01" + bytes(9), "the JPEG is damaged or cut off"),
    ],
)
def test_jpegs_that_cannot_be_used_are_refused_in_one_line(tmp_path, content, told):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DataError, match=told):
        read_frame(tmp_path / "a.jpg")


def test_jpegs_in_colour_are_refused_unless_their_channels_are_equal(tmp_path):
    grey = np.repeat(walker(64)[..., None], 3, axis=2)
    assert cv2.imwrite(str(tmp_path / "a.jpg"), grey)
    assert read_frame(tmp_path / "a.jpg").shape == (64, 64)
    assert cv2.imwrite(str(tmp_path / "b.JPG"), grey * np.array([0, 0, 1], np.uint8))
    with pytest.raises(DataError, match="a colour JPEG, not a silhouette"):
        read_frame(tmp_path / "b.JPG")


def test_unknown_names_list_the_known_ones(tmp_path):
    with pytest.raises(DataError, match=r"data\.dataset: no 'casia'; there are casiab, grew, gait3d"):
        open_dataset("casia", tmp_path)
    with pytest.raises(DataError, match=r"data\.format: no 'pkl'; there are tree, records"):
        open_dataset("casiab", tmp_path, file_format="pkl")
    with pytest.raises(DataError, match="no dataset 'casia'; there are casiab, .*tree"):
        download_of("casia")


def test_records_without_their_manifest_are_not_taken_for_a_tree(tmp_path):
    (tmp_path / "casiab-sequences.array_record-00000-of-00001").touch()
    with pytest.raises(DataError, match=r"no records\.json, so this is not a complete folder of records"):
        open_dataset("casiab", tmp_path)


def test_people_in_neither_set_are_reported(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(DATASETS, "toy", TOY)
    for name in ("anna", "ben", "cleo", "dora"):
        (tmp_path / name / "00" / "000").mkdir(parents=True)
        (tmp_path / name / "00" / "000" / "a.pkl").write_bytes(b"")
    open_dataset("toy", tmp_path)
    assert (
        f"2 of the 4 people in {tmp_path} are in neither the training nor the test set, such as 'cleo'"
        in caplog.text
    )
