"""A run stops if its data have changed, lists the changes, and continues if they are accepted."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from toy_runs import partition_of, toy_config

from mcl_jax.data.fingerprint import DataFingerprint, fingerprint_of
from mcl_jax.data.sequences import SequenceRef, Split
from mcl_jax.data.stores.tree import PklSource, scan_tree
from mcl_jax.errors import ConfigError
from mcl_jax.train_loop import train
from mcl_jax.workdir.trained_on import TRAINED_ON, data_changes, trained_people, write_trained_on


def fingerprint(root: Path, people: tuple[str, ...] = ("001", "002", "003")) -> DataFingerprint:
    found = tuple(s for s in scan_tree(root) if s.subject in people)
    return fingerprint_of(Split(found, tuple(sorted({s.subject for s in found})), PklSource()))


@pytest.fixture
def tree(people, tmp_path) -> Path:
    return Path(shutil.copytree(people, tmp_path / "walkers"))


def remove_one(tree: Path) -> None:
    shutil.rmtree(tree / "001" / "nm-01")


def add_one(tree: Path) -> None:
    shutil.copytree(tree / "001" / "nm-01", tree / "001" / "nm-09")


def replace_one(tree: Path) -> None:
    first, other = (next((tree / "001" / name / "036").glob("*.pkl")) for name in ("nm-01", "bg-01"))
    shutil.copy(other, first)


def rename(tree: Path) -> None:
    (tree / "001").rename(tree / "00x")


def exchange(tree: Path) -> None:
    for old, new in (("001", "aside"), ("002", "001"), ("aside", "002")):
        (tree / old).rename(tree / new)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove_one, "2 sequences missing, such as '001/nm-01/036'"),
        (add_one, "2 sequences new, such as '001/nm-09/036'"),
        (replace_one, "frames changed in 1 of 24 sequences, such as 001/nm-01/036"),
        (rename, "1 person missing, such as '001'; 1 person new, such as '00x'"),
        (exchange, "frames changed in 16 of 24 sequences, such as 001/bg-01/036"),
    ],
)
def test_a_change_is_named_by_its_kind(tree, tmp_path, change, message, caplog):
    before, workdir = fingerprint(tree), tmp_path / "run"
    write_trained_on(before, workdir, "walkers")
    change(tree)
    now = fingerprint(tree, ("001", "002", "003", "00x"))
    for stored in (before.digests, None):
        assert "; ".join(data_changes(now, workdir, stored)) == message
    # Without the names, or with damaged ones, the digests still tell.
    path = workdir / TRAINED_ON
    path.write_bytes(path.read_bytes().replace(b'"002"', b'"003"', 1))
    assert data_changes(now, workdir, before.digests)[0].startswith("other ")
    assert "trained_on.json: is damaged" in caplog.text


def test_training_and_test_people_exchanged_are_other_people(tree, tmp_path):
    before = fingerprint(tree)
    write_trained_on(before, tmp_path, "walkers")
    listed = data_changes(fingerprint(tree, ("004", "005", "006")), tmp_path, before.digests)
    assert listed[:2] == ["3 people missing, such as '001'", "3 people new, such as '004'"]


def test_the_same_in_another_place_is_no_change(people, tree):
    assert fingerprint(people).digests == fingerprint(tree).digests


def test_a_checkpoint_of_an_older_version_is_accepted(people, tmp_path):
    assert data_changes(fingerprint(people), tmp_path, None) == []


@pytest.mark.slow
def test_a_run_stops_before_its_first_step_and_records_what_is_accepted(people, tree, tmp_path):
    config = toy_config(people)
    config.train.steps, config.eval.protocol = 1, "none"
    workdir = tmp_path / "run"
    train(config, workdir)
    config.train.steps = 2
    config.data.root = str(tree)  # the same people and pixels
    remove_one(tree)
    with pytest.raises(ConfigError, match="at step 1, was trained on other data: 2 sequences missing"):
        train(config, workdir)
    (workdir / TRAINED_ON).unlink()
    with pytest.raises(ConfigError, match="was trained on other data: other sequences; other frames"):
        train(config, workdir)
    assert len((workdir / "stretches.jsonl").read_text().splitlines()) == 1
    train(config, workdir, accept_changes=True)
    last = json.loads((workdir / "stretches.jsonl").read_text().splitlines()[-1])
    assert last["accepted_changes"] == ["data: other sequences", "data: other frames"]
    config.train.steps = 3
    train(config, workdir)  # accepted once, it is what the run is trained on


class Counted:
    """A source that counts."""

    reads = 0

    def read(self, sequence: SequenceRef) -> np.ndarray:
        self.reads += 1
        return np.zeros((2, 64, 44), np.uint8)


def test_a_hundred_thousand_sequences_take_few_reads():
    source = Counted()
    names = sorted(f"{i:05d}" for i in range(20_000))
    sequences = tuple(SequenceRef(name, "nm-01", f"{view:03d}", "") for name in names for view in range(5))
    found = fingerprint_of(Split(sequences, tuple(names), source))
    assert source.reads == len(found.contents) == 32
    assert len({key.partition("/")[0] for key in found.contents}) == 32


def swapped(people: Path, folder: Path) -> str:
    """A partition whose training and test people are exchanged."""
    content = json.loads(Path(partition_of(people)).read_text())
    path = folder / "swapped.json"
    path.write_text(json.dumps({"TRAIN_SET": content["TEST_SET"], "TEST_SET": content["TRAIN_SET"]}))
    return str(path)


@pytest.mark.slow
def test_a_test_of_trained_people_is_said_in_log_table_and_page(people, tmp_path, caplog):
    config = toy_config(people)
    config.train.steps = 1
    train(config, tmp_path / "run")
    config.data.partition = swapped(people, tmp_path)
    assert not (tmp_path / "run" / "test" / "table.txt").read_text().count("Trained on")
    metrics = train(config, tmp_path / "run")  # nothing to train: only the test is made again
    note = "Trained on 3 of the 3 people tested here, such as '001': the figures do not say"
    assert note in caplog.text
    assert metrics["notes"][0].startswith(note)
    assert note in (tmp_path / "run" / "test" / "table.txt").read_text()
    assert "Trained on 3 of the 3 people" in (tmp_path / "run" / "test" / "report.html").read_text()
    config.train.steps = 2
    with pytest.raises(ConfigError, match="was trained on other data: 3 people missing, such as '001'"):
        train(config, tmp_path / "run")


def test_trained_people_are_known_after_an_accepted_change_and_not_by_name_alone(people, tree, tmp_path):
    def split(names: tuple[str, ...]) -> Split:
        return Split(tuple(s for s in scan_tree(tree) if s.subject in names), names, PklSource())

    write_trained_on(fingerprint(people), tmp_path, "walkers")
    write_trained_on(fingerprint(people, ("004", "005", "006")), tmp_path, "walkers")
    assert trained_people(tmp_path, "walkers", split(("001", "005"))) == ("001", "005")
    assert trained_people(tmp_path, "casiab", split(("001", "005"))) == ()
    exchange(tree)
    assert trained_people(tmp_path, "walkers", split(("001", "002"))) == ()  # others of these names
    assert trained_people(tmp_path / "elsewhere", "walkers", split(("001",))) == ()
