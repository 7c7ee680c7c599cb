"""One entry holds all of a dataset, from outside of the package too."""

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from mcl_jax.data.datasets import DATASETS, Dataset, download_of, downloads, open_dataset
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
def test_an_entry_from_outside_is_prepared_and_opened(tmp_path, monkeypatch, file_format, workers):
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


def test_people_of_neither_set_are_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(DATASETS, "toy", TOY)
    for name in ("anna", "ben", "cleo", "dora"):
        (tmp_path / name / "00" / "000").mkdir(parents=True)
        (tmp_path / name / "00" / "000" / "a.pkl").write_bytes(b"")
    open_dataset("toy", tmp_path)
    assert (
        f"2 of the 4 people in {tmp_path} are neither to train nor to test on, such as 'cleo'" in caplog.text
    )
