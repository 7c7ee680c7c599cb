"""Records: the same sequences and batches as from the tree, complete folders only, and restarts."""

import dataclasses
import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from mcl_jax.cli import program
from mcl_jax.data import first_look
from mcl_jax.data.datasets import download_of
from mcl_jax.data.feed.loaders import HostShare, TrainLoader
from mcl_jax.data.feed.prefetch import prefetched
from mcl_jax.data.feed.sampling import FrameSampling
from mcl_jax.data.first_look import look_at
from mcl_jax.data.prepare.preparation import prepare_dataset
from mcl_jax.data.prepare.records import shards
from mcl_jax.data.prepare.records.builder import SilhouetteBuilder
from mcl_jax.data.sequences import SequenceRef, Split, select
from mcl_jax.data.stores import manifest
from mcl_jax.data.stores.array_record import RecordsSource, open_records
from mcl_jax.data.stores.job_log import JOB_LOG
from mcl_jax.data.stores.manifest import RECORDS_FORMAT, RECORDS_MANIFEST, StoredSequence
from mcl_jax.data.stores.tree import PklSource, scan_tree
from mcl_jax.errors import DataError, UserError

TREE = download_of("tree")


def write_sequence(root, key, array):
    path = root / key / "sequence.pkl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(array))


@pytest.fixture
def tree(tmp_path):
    """Six sequences of three subjects, of 64 or 44 columns."""
    rng = np.random.default_rng(0)
    root = tmp_path / "tree"
    for number in range(6):
        width = 44 if number == 5 else 64
        frames = (rng.random((3 + number, 64, width)) > 0.5).astype(np.uint8) * 255
        write_sequence(root, f"{number // 2:03d}/nm-01/{number:03d}", frames)
    return root


@pytest.fixture
def records(tree, tmp_path):
    prepare_dataset(TREE, tree, tmp_path / "records", file_format="records")
    return tmp_path / "records"


def files(root):
    return {p.relative_to(root): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_records_have_the_sequences_of_the_tree(tree, records):
    found, source = open_records(records)
    assert found == scan_tree(tree)
    source = pickle.loads(pickle.dumps(source))
    for stored, original in zip(found, scan_tree(tree), strict=True):
        np.testing.assert_array_equal(source.read(stored)[:], PklSource().read(original))
    assert "tensorflow" not in sys.modules
    assert not list(records.parent.glob(".records*"))


def test_tfds_reads_them(tree, records):
    sequences = tfds.builder_from_directory(str(records)).as_data_source("sequences")
    assert len(sequences) == 6
    assert (sequences[4]["subject"], sequences[4]["view"]) == (b"002", b"004")
    np.testing.assert_array_equal(sequences[4]["silhouettes"], PklSource().read(scan_tree(tree)[4]))


def test_tfds_metadata_is_not_read(tree, records, monkeypatch, tmp_path):
    """TFDS imports the module that features.json names."""
    (tmp_path / "hostile_module.py").write_text("raise SystemExit('executed')")
    monkeypatch.syspath_prepend(tmp_path)
    (records / "features.json").write_text('{"pythonClassName": "hostile_module.Features"}')
    listed, source = open_records(records)
    np.testing.assert_array_equal(source.read(listed[4])[:], PklSource().read(scan_tree(tree)[4]))


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_batches_are_those_of_the_tree(tree, records, workers):
    batches = []
    for listed, source in ((scan_tree(tree), PklSource()), open_records(records)):
        loader = TrainLoader(
            select(listed, ["000", "001", "002"], "training", source),
            batch=(2, 2),
            frames=FrameSampling("unfixed_unordered", min_frames=2, max_frames=5),
            augmentation=[("perspective", 0.5), ("cut", 1.0), ("rotate", 0.5)],
            seed=1,
            share=HostShare(),
        )
        with prefetched(loader, range(4), workers) as iterator:
            batches.append([{key: value.copy() for key, value in batch.items()} for batch in iterator])
    assert len(batches[0]) == 4
    for first, second in zip(*batches, strict=True):
        for key in first:
            np.testing.assert_array_equal(first[key], second[key])


def test_png_and_pkl_give_the_same_records(real_silhouettes, tmp_path):
    for kind in ("png", "pkl"):
        prepare_dataset(TREE, real_silhouettes / kind, tmp_path / kind, file_format="records")
    (png, pkl) = (files(tmp_path / kind) for kind in ("png", "pkl"))
    assert {name for name in png if png[name] != pkl[name]} == {
        Path(RECORDS_MANIFEST),  # both have stamps of the source
        Path(JOB_LOG),
    }


def test_records_can_be_made_again_from_the_tree_of_the_same_frames(real_silhouettes, tmp_path):
    for kind in ("png", "pkl"):
        prepare_dataset(TREE, real_silhouettes / kind, tmp_path / kind, file_format="records")
        prepare_dataset(TREE, real_silhouettes / kind, tmp_path / "both", file_format="records")
    assert files(tmp_path / "both") == files(tmp_path / "pkl")


def test_files_do_not_depend_on_workers(tree, records, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SEQUENCES_PER_SHARD", 2)
    for workers in (0, 2):
        prepare_dataset(TREE, tree, tmp_path / str(workers), file_format="records", workers=workers)
    assert files(tmp_path / "0") == files(tmp_path / "2")
    listed, source = open_records(tmp_path / "2")
    assert len(list((tmp_path / "2").glob("*array_record*"))) == 3
    whole, source_of_whole = open_records(records)
    for sequence, same in zip(listed, whole, strict=True):
        np.testing.assert_array_equal(source.read(sequence)[:], source_of_whole.read(same)[:])


def test_second_run_redoes_nothing_and_repairs(tree, records):
    (shard,) = records.glob("*array_record*")
    before = files(records)
    os.utime(shard, (1, 1))
    prepare_dataset(TREE, tree, records, file_format="records")
    assert shard.stat().st_mtime == 1
    shard.write_bytes(shard.read_bytes()[:-100])
    prepare_dataset(TREE, tree, records, file_format="records")
    assert files(records) == before


def test_only_what_was_cut_off_or_changed_is_done_again(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SEQUENCES_PER_SHARD", 2)
    out = tmp_path / "out"
    prepare_dataset(TREE, tree, out, file_format="records")
    before = files(out)
    first, second, third = sorted(out.glob("*array_record*"))
    for shard in (first, second, third):
        os.utime(shard, (1, 1))
    second.write_bytes(second.read_bytes()[:-100])
    prepare_dataset(TREE, tree, out, file_format="records")
    assert files(out) == before
    assert [int(shard.stat().st_mtime) == 1 for shard in (first, second, third)] == [True, False, True]
    write_sequence(tree, "002/nm-01/005", np.tile(np.uint8([0, 255]), (2, 64, 32)))
    os.utime(second, (1, 1))
    prepare_dataset(TREE, tree, out, file_format="records")
    assert [int(shard.stat().st_mtime) == 1 for shard in (first, second, third)] == [True, True, False]
    listed, source = open_records(out)
    assert len(source.read(listed[5])) == 2


def test_interrupted_run_keeps_its_shards(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SEQUENCES_PER_SHARD", 2)
    damaged = tree / "001" / "nm-01" / "002" / "sequence.pkl"
    sound = damaged.read_bytes()
    damaged.write_bytes(sound[:1000])
    with pytest.raises(DataError, match=r"sequence\.pkl: truncated or damaged") as error:
        prepare_dataset(TREE, tree, tmp_path / "out", file_format="records")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
    kept = tmp_path / ".out.partial" / "shards" / "00000.array_record"
    os.utime(kept, (1, 1))
    damaged.write_bytes(sound)
    prepare_dataset(TREE, tree, tmp_path / "out", file_format="records")
    times = [p.stat().st_mtime for p in sorted((tmp_path / "out").glob("*array_record*"))]
    assert times[0] == 1
    assert min(times[1:]) > 1
    assert len(open_records(tmp_path / "out")[0]) == 6


def test_shards_of_another_version_are_not_continued(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SEQUENCES_PER_SHARD", 2)
    damaged = tree / "001" / "nm-01" / "002" / "sequence.pkl"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    monkeypatch.setattr(shards, "RECORDS_FORMAT", 1)
    with pytest.raises(DataError, match="truncated"):
        prepare_dataset(TREE, tree, tmp_path / "out", file_format="records")
    monkeypatch.setattr(shards, "RECORDS_FORMAT", RECORDS_FORMAT)
    with pytest.raises(DataError, match=r"\.out\.partial/shards.*another version; .*delete this one"):
        prepare_dataset(TREE, tree, tmp_path / "out", file_format="records")


def test_damaged_sequence_can_be_skipped(tree, tmp_path):
    write_sequence(tree, "003/nm-01/000", np.zeros((3, 64, 64), np.float32))
    with pytest.raises(DataError, match="float32"):
        prepare_dataset(TREE, tree, tmp_path / "out", file_format="records")
    summary = prepare_dataset(TREE, tree, tmp_path / "out", file_format="records", skip_damaged=True)
    assert (summary.sequences, summary.skipped_sequences) == (6, 1)
    assert "003,nm-01,000,," in (tmp_path / "out" / "skipped.csv").read_text()


def test_incomplete_folders_are_refused(tree, records, tmp_path):
    with pytest.raises(DataError, match="no folder"):
        open_records(tmp_path / "missing")
    with pytest.raises(DataError, match=r"no records\.json.*data\.format"):
        open_records(tree)
    (shard,) = records.glob("*array_record*")
    content = shard.read_bytes()
    shard.write_bytes(content[:-1])
    with pytest.raises(DataError, match=rf"{shard.name}: incomplete"):
        open_records(records)
    shard.unlink()
    with pytest.raises(DataError, match=rf"{shard.name}: missing"):
        open_records(records)
    path = records / RECORDS_MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 0}))
    with pytest.raises(DataError, match="format 0"):
        open_records(records)
    path.write_text(json.dumps({"format": RECORDS_FORMAT}))
    with pytest.raises(DataError, match="damaged"):
        open_records(records)
    path.write_text("{")
    with pytest.raises(DataError, match="damaged"):
        open_records(records)


def test_flipped_bytes_are_noticed(records):
    listed, source = open_records(records)
    (shard,) = records.glob("*array_record*")
    content = bytearray(shard.read_bytes())
    content[200] ^= 255
    shard.write_bytes(content)
    with pytest.raises(DataError, match=r"record 0 \(000/nm-01/000\): cannot be read"):
        source.read(listed[0])


def test_an_output_folder_with_other_content_is_not_touched(tree, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(DataError, match="not empty"):
        prepare_dataset(TREE, tree, tmp_path / "out", file_format="records")


def test_records_of_another_source_are_not_replaced(tree, records):
    before = files(records)
    with pytest.raises(DataError, match="holds records of tree"):
        prepare_dataset(download_of("casiab"), tree, records, file_format="records")
    (tree / "001").rename(tree.parent / "gone")
    with pytest.raises(DataError, match=r"holds records of 001/nm-01/002, which is not in --src"):
        prepare_dataset(TREE, tree, records, file_format="records")
    assert files(records) == before


def test_an_unfinished_tree_is_refused_as_source(tree, tmp_path):
    (tree / "prepared.jsonl").write_text('{"format":1,"dataset":"tree","kind":"pkl","complete":false}\n')
    with pytest.raises(DataError, match="--src: the preparation of .* is not complete"):
        prepare_dataset(TREE, tree, tmp_path / "out", file_format="records")


def test_damaged_sequences_can_be_deleted(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SEQUENCES_PER_SHARD", 5)
    (tree / "002" / "nm-01" / "004" / "sequence.pkl").write_bytes(b"")
    with pytest.raises(DataError, match="truncated"):
        prepare_dataset(TREE, tree, tmp_path / "out", file_format="records")
    shutil.rmtree(tree / "002" / "nm-01" / "004")
    assert prepare_dataset(TREE, tree, tmp_path / "out", file_format="records").sequences == 5


def test_a_full_disk_is_one_line(tree, tmp_path, monkeypatch):
    class FullDisk:
        def __init__(self, path, options):
            Path(path).touch()

        def write(self, record):
            raise RuntimeError("write() failed: No space left on device; writing x")

    monkeypatch.setattr(shards.array_record_module, "ArrayRecordWriter", FullDisk)
    with pytest.raises(
        DataError, match=r"00000\.array_record: cannot be written: .*No space left on device$"
    ):
        prepare_dataset(TREE, tree, tmp_path / "out", file_format="records")


def test_swapped_shards_are_detected(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SEQUENCES_PER_SHARD", 2)
    prepare_dataset(TREE, tree, tmp_path / "out", file_format="records")
    first, second, _ = sorted((tmp_path / "out").glob("*array_record*"))
    assert first.stat().st_size == second.stat().st_size  # they are padded
    content = first.read_bytes()
    listed, source = open_records(tmp_path / "out")
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    with pytest.raises(DataError, match=rf"{first.name}: damaged, or from another preparation"):
        open_records(tmp_path / "out")
    with pytest.raises(DataError, match=r"record 0 \(000/nm-01/000\): holds 001/nm-01/002"):
        source.read(listed[0])


def other_preparation(tree, out, number):
    """Prepares the same names and sizes with other pixels in one sequence."""
    path = scan_tree(tree)[number].location
    frames = pickle.loads(Path(path).read_bytes())
    Path(path).write_bytes(pickle.dumps(np.ascontiguousarray(frames[:, ::-1])))
    prepare_dataset(TREE, tree, out, file_format="records")
    return next(out.glob("*array_record*"))


@pytest.mark.parametrize("number", [0, 5])
def test_a_shard_of_another_preparation_is_refused_at_opening(tree, records, tmp_path, number):
    (shard,) = records.glob("*array_record*")
    other = other_preparation(tree, tmp_path / "other", number)
    assert (other.name, other.stat().st_size) == (shard.name, shard.stat().st_size)
    shard.write_bytes(other.read_bytes())
    with pytest.raises(DataError, match=rf"{shard.name}: damaged, or from another preparation; restore"):
        open_records(records)


def test_a_changed_record_is_detected_when_it_is_read(tree, records, tmp_path):
    (shard,) = records.glob("*array_record*")
    shard.write_bytes(other_preparation(tree, tmp_path / "other", 3).read_bytes())
    content = manifest.read_manifest(records)
    manifest.write_manifest(records, dataclasses.replace(content, samples={}))  # as if it were large
    listed, source = open_records(records)
    source.read(listed[2])
    with pytest.raises(
        DataError, match=r"record 3 \(001/nm-01/003\): is damaged, or comes from another preparation"
    ):
        source.read(listed[3])


def test_no_flipped_bit_of_a_shard_gives_other_frames(tree, records):
    (shard,) = records.glob("*array_record*")
    listed, _ = open_records(records)
    checksums = manifest.read_manifest(records).checksums
    content = shard.read_bytes()
    expected = [RecordsSource(records, checksums).read(sequence)[:] for sequence in listed]
    refused = 0
    for bit in np.random.default_rng(0).integers(0, 8 * len(content), 150).tolist():
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        shard.write_bytes(damaged)
        source = RecordsSource(records, checksums)
        for sequence, frames in zip(listed, expected, strict=True):
            try:
                found = source.read(sequence)[:]
            except DataError:
                refused += 1
            else:
                np.testing.assert_array_equal(found, frames)
    assert refused


def test_records_of_an_earlier_version_are_read_with_a_warning(records, caplog):
    content = manifest.read_manifest(records)
    manifest.write_manifest(records, dataclasses.replace(content, samples={}, checksums=()))
    listed, source = open_records(records)
    assert len(source.read(listed[0])) == 3
    assert "records of an earlier version, without digests" in caplog.text


def test_a_shard_with_fewer_records_is_refused(tree, records):
    content = manifest.read_manifest(records)
    more = (*content.sequences, StoredSequence("9", "nm-01", "090", 1))
    manifest.write_manifest(records, dataclasses.replace(content, sequences=more, checksums=()))
    listed, source = open_records(records)
    with pytest.raises(DataError, match=r"has 6 records, but records\.json lists 7"):
        source.read(listed[0])


def test_the_builder_works_without_the_script(tmp_path):
    folder = tmp_path / "GREW" / "test" / "probe" / "v1"
    folder.mkdir(parents=True)
    frame = np.tile(np.uint8([0, 200]), (64, 32))
    cv2.imwrite(str(folder / "1.png"), frame)
    builder = SilhouetteBuilder(download_of("grew"), data_dir=str(tmp_path / "tfds"))
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=str(tmp_path / "GREW"))
    )
    listed, source = open_records(Path(builder.data_dir))
    assert listed == [SequenceRef("probe", "03", "v1", "0")]
    assert (source.read(listed[0])[:] == frame).all()


def test_a_missing_array_record_package_is_named(tree, records, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "array_record", None)
    for use in (
        lambda: open_records(records),
        lambda: prepare_dataset(TREE, tree, tmp_path / "more", file_format="records"),
    ):
        with pytest.raises(UserError, match=r"needs array_record: pip install 'mcl_jax\[records\]'"):
            use()


def test_evenly_spaced_records_are_checked_before_training(records, monkeypatch):
    listed, source = open_records(records)
    look_at([Split(tuple(listed), ("000",), source)], skip=False)
    monkeypatch.setattr(first_look, "_RECORDS", 3)
    damaged = Split(tuple(listed), ("000",), RecordsSource(records, [0] * len(listed)))
    told = r"^3 of 3 sequences checked cannot be used; the first: .*record 0 \(000/nm-01/000\): is damaged"
    with pytest.raises(DataError, match=told):
        look_at([damaged], skip=False)


def test_a_pattern_chooses_the_file_to_prepare(tree, records, tmp_path, capsys):
    for path in sorted(tree.rglob("*.pkl")):
        path.rename(path.with_name("walk-sil.pkl"))
        path.with_name("walk-pose.pkl").write_bytes(b"pose")
    out = tmp_path / "chosen"
    with pytest.raises(
        DataError, match=r"2 pkl files, walk-pose\.pkl, walk-sil\.pkl; .*data\.file='\*-pose\.pkl' \(mcl-jax"
    ):
        prepare_dataset(TREE, tree, out, file_format="records")
    prepare_dataset(dataclasses.replace(TREE, file="*-sil.pkl"), tree, out, file_format="records")
    chosen, plain = (
        {n: c for n, c in files(root).items() if "array_record" in n.name} for root in (out, records)
    )
    assert chosen == plain != {}
    (tmp_path / "png" / "001" / "nm-01" / "000").mkdir(parents=True)
    line = ["tree", "--src", str(tmp_path / "png"), "--out", str(tmp_path / "other"), "--file", "*-sil.pkl"]
    assert program.run(["prepare", *line]) == 1
    assert "--file: is for a tree of pkl files" in capsys.readouterr().err
