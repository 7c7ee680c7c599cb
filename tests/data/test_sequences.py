"""Listing a tree, reading a partition, and splitting."""

import json
import os
from pathlib import Path

import pytest

from mcl_jax.data.datasets import DATASETS, open_dataset
from mcl_jax.data.sequences import SequenceRef, read_gallery_set, read_partition, select
from mcl_jax.data.stores.tree import PklSource, scan_tree
from mcl_jax.errors import DataError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def test_a_tree_is_listed_sorted_without_system_files(tmp_path):
    touch(tmp_path, "002/nm-01/090/a.pkl", "001/nm-02/000/000.pkl", "notes.txt", "__MACOSX/a/b/c/d.pkl")
    touch(tmp_path, "001/.DS_Store", "001/@eaDir/0/a.pkl", "002/nm-01/090/._a.pkl", "002/__pycache__/a/b.pkl")
    sequences = scan_tree(tmp_path)
    assert [s.key for s in sequences] == ["001/nm-02/000", "002/nm-01/090"]
    assert Path(sequences[1].location).name == "a.pkl"


def test_a_pattern_chooses_among_several_files(tmp_path):
    touch(tmp_path, "001/nm-01/090/090-pose.pkl", "001/nm-01/090/090-sil.pkl", "002/nm-01/090/090-sil.pkl")
    several = (
        r"001/nm-01/090: 2 pkl files, 090-pose\.pkl, 090-sil\.pkl; .*--config\.data\.file='\*-pose\.pkl'"
    )
    first, second = scan_tree(tmp_path)
    with pytest.raises(DataError, match=several):
        PklSource().read(first)
    PklSource().require_file(second)
    chosen = scan_tree(tmp_path, "*-sil.pkl")
    assert {Path(s.location).name for s in chosen} == {"090-sil.pkl"}
    with pytest.raises(DataError, match=r"no file 'x\*' \(data\.file\); there are 090-pose\.pkl, 090-sil"):
        scan_tree(tmp_path, "x*")


def test_a_number_chooses_among_several_files(tmp_path):
    names = [f"{i:02d}-000-{kind}.pkl" for i, kind in enumerate(("Depth", "Sils_raw", "Sils_aligned"))]
    touch(tmp_path, *(f"001/00-nm/000/{name}" for name in names))
    for choice in ("3", "02-*", "*-x.pkl|3", "*aligned.pkl|*.pkl"):
        (sequence,) = scan_tree(tmp_path, choice)
        assert Path(sequence.location).name == names[2]
    with pytest.raises(
        DataError, match="there are 3 pkl files, and data.file asks for number 4; there are 00-"
    ):
        scan_tree(tmp_path, "4")
    with pytest.raises(DataError, match=r"2 pkl files, 01-.*, 02-.*; say which .* or by its number"):
        scan_tree(tmp_path, "*Sils*")
    with pytest.raises(DataError, match=r"data\.file: is '0'; files are numbered from 1"):
        open_dataset("casiab", tmp_path, file="0")


def test_every_candidate_is_listed(tmp_path):
    touch(tmp_path, *(f"0001/00-nm/000/{i:02d}-000.pkl" for i in range(16)))
    partition = tmp_path / "p.json"
    partition.write_text('{"TRAIN_SET": ["0002"], "TEST_SET": ["0001"]}')
    with pytest.raises(
        DataError, match=r"no file '06-\*-Camera-Sils_aligned.pkl' .* 00-000.pkl, .*15-000.pkl"
    ):
        open_dataset("sustech1k", tmp_path, partition=partition)
    touch(tmp_path, "0001/00-nm/000/06-000-Camera-Sils_aligned.pkl")
    (sequence,) = open_dataset("sustech1k", tmp_path, partition=partition).test_split().sequences
    assert Path(sequence.location).name == "06-000-Camera-Sils_aligned.pkl"


def test_faulty_folders_of_unused_people_are_ignored(tmp_path):
    touch(tmp_path, *(f"{subject:03d}/nm-01/000/a.pkl" for subject in range(1, 76)))
    (tmp_path / "999" / "nm-01" / "000").mkdir(parents=True)
    dataset = open_dataset("casiab", tmp_path)
    assert len(dataset.train_split().sequences) == 74
    (tmp_path / "075" / "nm-02" / "000").mkdir(parents=True)
    dataset = open_dataset("casiab", tmp_path)
    assert len(dataset.train_split().sequences) == 74
    with pytest.raises(DataError, match=r"075/nm-02/000: no \.pkl file; prepare the sequence again"):
        dataset.test_split()


def test_an_error_suggests_the_right_level_for_the_root(tmp_path):
    touch(tmp_path, "CASIA/CASIA/001/nm-01/000/a.pkl", "CASIA/CASIA/002/nm-01/000/a.pkl")
    with pytest.raises(DataError, match=r"is a level too high: its only folder is 'CASIA'; set"):
        scan_tree(tmp_path / "CASIA")
    for inside, levels in (
        ("001", "a level"),
        ("001/nm-01", "two levels"),
        ("001/nm-01/000", "three levels"),
    ):
        with pytest.raises(DataError, match=rf"a\.pkl is {levels} short .*data\.root=\S*/CASIA/CASIA if"):
            scan_tree(tmp_path / "CASIA" / "CASIA" / inside)
    touch(tmp_path, "CASIA/notes/001/nm-01/000/a.pkl")
    with pytest.raises(DataError, match=r"has a level too many: .*CASIA/CASIA/001/nm-01 holds folders"):
        scan_tree(tmp_path / "CASIA")


def test_unusable_trees_are_named(tmp_path):
    with pytest.raises(DataError, match=r"no folder '.*missing'"):
        scan_tree(tmp_path / "missing")
    with pytest.raises(DataError, match="no sequence under"):
        scan_tree(tmp_path)
    touch(tmp_path, "masks/0001.png", "street.mp4")
    with pytest.raises(DataError, match=r"masks holds PNG frames, .*silhouettes --video \S*masks --out TREE"):
        scan_tree(tmp_path / "masks")
    with pytest.raises(DataError, match=r"street\.mp4 is a file, .*silhouettes --video \S*street\.mp4 --out"):
        scan_tree(tmp_path / "street.mp4")
    touch(tmp_path, "001/nm-01/000/readme.txt")
    with pytest.raises(DataError, match=r"001/nm-01/000: no \.pkl file"):
        scan_tree(tmp_path)


def test_partition_is_read(tmp_path):
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"TRAIN_SET": ["1"], "TEST_SET": ["2"], "PROBE_SET": ["2-a-b"]}))
    partition = read_partition(path)
    assert (partition.train, partition.test, partition.probe_set) == (("1",), ("2",), ("2-a-b",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a JSON file"),
        ("[]", "not a partition; expected an object"),
        ('{"TRAIN_SET": ["1"]}', "TEST_SET must be a list"),
        ('{"TRAIN_SET": [null], "TEST_SET": []}', "TRAIN_SET must be a list of names"),
        (
            '{"TRAIN_SET": ["1", "2"], "TEST_SET": ["2"]}',
            "1 subjects are in TRAIN_SET and TEST_SET, e.g. '2'",
        ),
    ],
)
def test_malformed_partitions_are_named(tmp_path, content, message):
    path = tmp_path / "p.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_partition(path)


def test_missing_partition_is_named(tmp_path):
    with pytest.raises(DataError, match=r"p\.json: cannot read the partition: No such file"):
        read_partition(tmp_path / "p.json")


def test_class_is_the_position_among_subjects_found():
    sequences = [SequenceRef(s, "nm-01", "000", s) for s in ("003", "001", "009")]
    split = select(sequences, ["009", "001", "002"], "training", PklSource())
    assert split.subjects == ("001", "009")
    assert [s.subject for s in split.sequences] == ["001", "009"]


def test_a_split_without_subjects_or_with_twins_is_refused():
    sequences = [SequenceRef("001", "nm-01", "000", "a"), SequenceRef("001", "nm-01", "000", "b")]
    with pytest.raises(DataError, match="none of the 1 test subjects .* folders like '002'"):
        select(sequences, ["002"], "test", PklSource())
    with pytest.raises(DataError, match="001/nm-01/000: two sequences have this name: a, b"):
        select(sequences, ["001"], "test", PklSource())


def test_rules_of_the_datasets():
    casiab, grew = DATASETS["casiab"].partition, DATASETS["grew"].partition
    assert (len(casiab.train), casiab.train[-1], len(casiab.test), casiab.test[0]) == (74, "074", 50, "075")
    assert (len(grew.train), grew.train[0], len(grew.test)) == (20_000, "00001train", 6_001)
    assert "probe" in grew.test


def test_opening_a_dataset_needs_a_root_and_a_partition(tmp_path):
    with pytest.raises(DataError, match="data.root is empty"):
        open_dataset("casiab", "")
    touch(tmp_path, "001/nm-01/000/000.pkl")
    with pytest.raises(DataError, match="gait3d has no built-in split"):
        open_dataset("gait3d", str(tmp_path))
    assert open_dataset("casiab", str(tmp_path), file_format="tree").train_split().subjects == ("001",)


def test_a_name_that_is_not_utf_8_is_refused_where_sequences_are_listed(tmp_path):
    folder = Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9/nm-01/090"))
    folder.mkdir(parents=True)
    (folder / "090.pkl").touch()
    with pytest.raises(DataError, match=r"'caf\\udce9' is not UTF-8; rename the folder"):
        scan_tree(tmp_path)
    assert SequenceRef("Zoë", "nm-01", "090", "").key == "Zoë/nm-01/090"


def test_a_gallery_set_is_read_and_a_byte_order_mark_ignored(tmp_path):
    path = tmp_path / "p.json"
    content = {"TRAIN_SET": ["1"], "TEST_SET": ["2"], "PROBE_SET": ["2-a-b"], "GALLERY_SET": ["2-a-c"]}
    path.write_text(json.dumps(content), encoding="utf-8-sig")
    assert read_partition(path).gallery_set == read_gallery_set(path) == ("2-a-c",)
    del content["GALLERY_SET"]
    path.write_text(json.dumps(content))
    assert read_partition(path).gallery_set is read_gallery_set(path) is None


def test_numbers_instead_of_names_are_refused(tmp_path):
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"TRAIN_SET": [1, 2], "TEST_SET": ["3"]}))
    with pytest.raises(DataError, match='TRAIN_SET holds numbers, such as 1; .*such as "1" or "001"'):
        read_partition(path)


def test_names_spelled_differently_are_shown_in_both_spellings(tmp_path, caplog):
    touch(tmp_path, "001/nm-01/000/a.pkl", "002/nm-01/000/a.pkl")
    sequences = scan_tree(tmp_path)
    with pytest.raises(DataError, match="like '1', found '001', '002'; '1' is written '001' there"):
        select(sequences, ["1", "2"], "training", PklSource())
    select(sequences, ["1", "002"], "training", PklSource())
    assert "1 of 2 training subjects have no sequence: 1; '1' is written '001' there" in caplog.text
