"""The folder of a test: no test overwrites the results of another, and the default folder keeps its name."""

import json
from pathlib import Path

import pytest

from mcl_jax.errors import ConfigError
from mcl_jax.workdir.test_folder import TestSubject, folder_of_test


@pytest.fixture
def run(tmp_path) -> Path:
    """The workdir of a run on CASIA-B, with its test at step 9."""
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config_train.json").write_text('{"data": {"dataset": "casiab"}}')
    write_metrics(tmp_path / "run" / "test", tmp_path / "run" / "checkpoints" / "9")
    return tmp_path / "run"


def write_metrics(folder: Path, checkpoint: Path, root: str = "/data/a", digest: str = "A") -> None:
    folder.mkdir()
    data = {"dataset": "casiab", "root": root, "digest": digest}
    content = {"model": {"checkpoint": str(checkpoint)}, "data": data}
    (folder / "metrics.json").write_text(json.dumps(content))


def subject(
    weights: Path,
    step: int | None = None,
    *,
    dataset: str = "casiab",
    root: str = "/data/a",
    digest: str = "A",
    average: bool = False,
) -> TestSubject:
    return TestSubject(weights, step, dataset, Path(root), lambda: digest, average)


def test_the_newest_checkpoint_on_the_run_s_data_stays_in_its_place(run):
    assert folder_of_test(run, subject(run)) == run / "test"
    moved = subject(run, root="/other/disk")
    assert folder_of_test(run, moved) == run / "test"
    assert folder_of_test(run, subject(run, digest="more people")) == run / "test"
    (run / "test" / "metrics.json").write_text('{"scores": {}}')  # of an older version
    assert folder_of_test(run, subject(run, root="/other", digest="B")) == run / "test"


@pytest.mark.parametrize(
    ("weights", "step", "data", "name"),
    [
        ("run", 3, {}, "test-3"),
        ("run", None, {"average": True}, "test-average"),
        ("run", 3, {"average": True}, "test-3-average"),
        ("run", None, {"dataset": "gait3d", "root": "/data/b"}, "test-gait3d"),
        ("run", 3, {"dataset": "gait3d", "root": "/data/b"}, "test-3-gait3d"),
        ("run", None, {"root": "/data/site b", "digest": "B"}, "test-site_b"),
        ("GaitBase_DA-60000.pt", None, {}, "test-GaitBase_DA-60000"),
        ("other", 7, {}, "test-other-7"),
    ],
)
def test_another_step_other_weights_and_other_data_have_folders_of_their_own(run, weights, step, data, name):
    assert folder_of_test(run, subject(run.parent / weights, step, **data)) == run / name


def test_averaged_weights_and_the_others_do_not_overwrite_each_other(run):
    write_metrics(run / "test-average", run / "checkpoints" / "9@average")
    assert folder_of_test(run, subject(run, average=True)) == run / "test-average"
    write_metrics(run / "test-9", run / "checkpoints" / "9@average")
    with pytest.raises(ConfigError, match="which this one would overwrite"):
        folder_of_test(run, subject(run, 9))


def test_a_run_that_was_imported_has_no_data_but_those_of_its_first_test(run):
    (run / "config_train.json").unlink()
    assert folder_of_test(run, subject(run)) == run / "test"
    assert folder_of_test(run, subject(run, dataset="gait3d", root="/b")) == run / "test-gait3d"


def test_results_of_something_else_are_not_overwritten(run, tmp_path):
    first, second = tmp_path / "a" / "x.pt", tmp_path / "b" / "x.pt"
    write_metrics(run / "test-x", first)
    assert folder_of_test(run, subject(first)) == run / "test-x"
    with pytest.raises(ConfigError, match=rf"test-x: holds a test of {first} on casiab, /data/a, .* another"):
        folder_of_test(run, subject(second))
    # Without a run of its own, a folder holds the test of one thing.
    out = tmp_path / "out"
    assert folder_of_test(out, subject(first)) == out / "test"
    out.mkdir()
    write_metrics(out / "test", run / "checkpoints" / "9")
    for same in (subject(run), subject(run, 9), subject(run, root="/moved")):
        assert folder_of_test(out, same) == out / "test"
    for other in (subject(run, 3), subject(first), subject(run, root="/b", digest="B")):
        with pytest.raises(ConfigError, match=r"which this one would overwrite; give another"):
            folder_of_test(out, other)
