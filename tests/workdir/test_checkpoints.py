"""Checkpoints: they are restored exactly, damage is detected, and nothing is lost."""

import errno
import os
import re
import resource
import threading
from pathlib import Path

import jax
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp
from toy_states import MODEL, assert_equal, make_averaged, make_state, restore, save

from mcl_jax.errors import CheckpointError, ConfigError
from mcl_jax.training.state import without_average
from mcl_jax.weights.load import load_weights
from mcl_jax.workdir.checkpoint_table import table
from mcl_jax.workdir.checkpoints import Checkpoints
from mcl_jax.workdir.retention import Keep, best, note_scores


def flip_a_byte(folder: Path) -> None:
    """Changes one byte in the middle of the largest file of a checkpoint."""
    path = max(folder.rglob("*"), key=lambda p: p.stat().st_size if p.is_file() else 0)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def test_the_newest_comes_back_whole(tmp_path):
    assert restore(tmp_path) is None
    save(tmp_path, 3, 5)
    assert_equal(restore(tmp_path), make_state(5))
    with Checkpoints(tmp_path) as checkpoints:
        weights = checkpoints.load_weights()
    assert weights.step == 5
    assert weights.block == {"name": "gaitbase", "channels": [2, 2, 2, 2], "num_classes": 3}
    for mine, its in (
        (weights.params, make_state(5).params),
        (weights.batch_stats, make_state(5).batch_stats),
    ):
        assert jax.tree.structure(mine) == jax.tree.structure(its)
        assert all(np.array_equal(x, y) for x, y in zip(*map(jax.tree.leaves, (mine, its)), strict=True))


def save_averaged(workdir: Path, step: int) -> None:
    with Checkpoints(workdir, keep=Keep(9)) as checkpoints:
        checkpoints.save(make_averaged(step), MODEL)


def test_averaged_weights_come_back_and_can_be_chosen(tmp_path):
    save(tmp_path, 2)
    assert not any(b"'average'" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    save_averaged(tmp_path, 3)
    with Checkpoints(tmp_path, keep=Keep(9)) as checkpoints:
        assert_equal(checkpoints.restore(make_averaged(0)), make_averaged(3))
        assert [checkpoints.has_average(step) for step in (2, 3)] == [False, True]
        assert [found.problem for found in checkpoints.survey()] == ["", ""]
    for name in ("@average", "/checkpoints/3@average"):
        weights = load_weights(f"{tmp_path}{name}")
        assert (weights.step, weights.source) == (3, f"{tmp_path}@average")
        found = jax.tree.leaves((weights.params, weights.batch_stats))
        average = make_averaged(3).average
        expected = jax.tree.leaves((average["params"], average["batch_stats"]))
        assert all(np.array_equal(x, y) for x, y in zip(found, expected, strict=True))
    assert_equal(load_weights(tmp_path).params, make_state(3).params)
    with pytest.raises(CheckpointError, match=r"2: has no averaged weights, since train.ema was 0; leave"):
        load_weights(f"{tmp_path}/checkpoints/2@average")
    flip_a_byte(tmp_path / "checkpoints" / "3")
    with pytest.raises(CheckpointError, match="all checkpoints .* are damaged"):
        load_weights(f"{tmp_path}/checkpoints/3@average")


def test_an_average_starts_and_ends_where_a_run_is_resumed(tmp_path, caplog):
    save(tmp_path / "on", 2)
    save_averaged(tmp_path / "off", 2)
    with Checkpoints(tmp_path / "on", keep=Keep(9)) as checkpoints:
        state = checkpoints.restore(make_averaged(0))
    assert "train.ema: the average starts from the weights of step 2" in caplog.text
    assert_equal(without_average(state), make_state(2))
    assert_equal(state.average, {"params": state.params, "batch_stats": state.batch_stats})
    assert_equal(restore(tmp_path / "off"), make_state(2))


def test_only_the_newest_are_kept(tmp_path):
    save(tmp_path, 1, 2, 3, 4, keep=2)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()) == ["3", "4"]


def test_those_of_every_so_many_steps_and_the_best_are_kept(tmp_path):
    note_scores(tmp_path, "NM/Rank-1", 3, {"NM": {"Rank-1": 50.0, "mAP": 1.0}, "BG": {"Rank-1": 99.0}})
    note_scores(tmp_path, "NM/Rank-1", 5, {"NM": {"Rank-1": 50.0}})  # no better
    save(tmp_path, *range(1, 10), keep=1, every=4)
    kept = ["3", "4", "8", "9"]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()) == kept
    assert load_weights(tmp_path / "checkpoints" / "4").step == 4
    note_scores(tmp_path, "NM/Rank-1", 8, {"NM": {"Rank-1": 50.5}})
    assert best(tmp_path) == {"step": 8, "figure": "NM/Rank-1", "value": 50.5}
    note_scores(tmp_path, "NM/mAP", 9, {"NM": {"mAP": 0.5}})  # another figure starts again
    assert best(tmp_path)["step"] == 9
    with pytest.raises(ConfigError, match=r"no figure 'NM/rank1' .*; there are NM/Rank-1"):
        note_scores(tmp_path, "NM/rank1", 9, {"NM": {"Rank-1": 50.5}})
    record = (tmp_path / "best.json").read_text()
    for changed in (
        record.replace('"step": 9', '"step": 8'),
        record.replace('"digest"', '"digesu"'),
        "[" * 9999,
    ):
        (tmp_path / "best.json").write_text(changed)
        assert best(tmp_path) == {}
    (tmp_path / "best.json").write_text('{"step": 9, "figure": "NM/Rank-1", "value": 60.0}')
    assert best(tmp_path)["step"] == 9  # of an older version
    (tmp_path / "best.json").write_text("[1]")
    assert best(tmp_path) == {}


def test_the_list_says_what_is_sound(tmp_path):
    save(tmp_path, 3, 5, 7)
    flip_a_byte(tmp_path / "checkpoints" / "5")
    (tmp_path / "checkpoints" / "7" / "_CHECKPOINT_METADATA").write_text("{")
    note_scores(tmp_path, "NM/Rank-1", 3, {"NM": {"Rank-1": 50.0}})
    rows = table(tmp_path).splitlines()
    date = r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.match(rf"       3  {date} +0\.\d MB  [0-9a-f]{{12}}  sound; best by NM/Rank-1, 50$", rows[1])
    assert [row.split()[0] for row in rows[1:]] == ["3", "5", "7"]
    assert all(f"MB  {'':12}  damaged: " in row for row in rows[2:])
    with pytest.raises(CheckpointError, match="nothing: has no folder checkpoints/"):
        table(tmp_path / "nothing")


def test_a_save_that_cannot_be_written_is_one_line_and_loses_nothing(tmp_path):
    save(tmp_path, 3)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Like a full disk, this fails in whichever thread and library writes.
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.raises(
            CheckpointError, match=r"cannot be saved: .*; the newest saved step is 3.*make room"
        ):
            save(tmp_path, 5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert_equal(restore(tmp_path), make_state(3))


def test_a_state_may_be_donated_while_it_is_saved(tmp_path):
    state = make_state(7)
    overwrite = jax.jit(lambda s: jax.tree.map(lambda x: x * 0 - 1, s), donate_argnums=0)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state, MODEL)
        for _ in range(3):
            state = overwrite(state)
    assert_equal(restore(tmp_path), make_state(7))


@pytest.mark.parametrize(
    "damage",
    [
        "flipped",
        "a key of the metadata",
        *[pytest.param(d, marks=pytest.mark.slow) for d in ("truncated", "metadata")],
    ],
)
def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(tmp_path, damage):
    save(tmp_path, 3, 5)
    folder = tmp_path / "checkpoints" / "5"
    if damage == "flipped":
        flip_a_byte(folder)
    elif damage == "truncated":
        for path in folder.rglob("d/*"):
            path.write_bytes(path.read_bytes()[:100])
    elif damage == "metadata":
        (folder / "_CHECKPOINT_METADATA").write_text("{")
    else:
        path = folder / "_CHECKPOINT_METADATA"
        path.write_text(path.read_text().replace('"commit_timestamp_nsecs"', '"commit_dimestamp_nsecs"'))
    assert_equal(restore(tmp_path), make_state(3))
    assert not folder.exists()
    assert (tmp_path / "checkpoints-damaged" / "5").is_dir()
    # Training goes on from 3 and saves 5 again.
    save(tmp_path, 5)
    assert_equal(restore(tmp_path), make_state(5))


def test_when_all_are_damaged_nothing_is_moved(tmp_path):
    save(tmp_path, 3)
    flip_a_byte(tmp_path / "checkpoints" / "3")
    with pytest.raises(CheckpointError, match=r"all checkpoints \(\[3\]\) are damaged"):
        restore(tmp_path)
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(CheckpointError, match=r"all checkpoints \(\[3\]\) are damaged"),
    ):
        checkpoints.load_weights()
    assert (tmp_path / "checkpoints" / "3").is_dir()


def test_a_checkpoint_of_another_model_is_named(tmp_path):
    save(tmp_path, 3)
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(CheckpointError, match=r"is \(64,\) in it and \(96,\) in this config"),
    ):
        checkpoints.restore(make_state(0, embed_dim=6))


def test_no_checkpoint_is_named(tmp_path):
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError, match="has no checkpoint"):
        checkpoints.load_weights()


def test_an_interrupted_save_does_not_count(tmp_path):
    save(tmp_path, 3)
    unfinished = tmp_path / "checkpoints" / "5.orbax-checkpoint-tmp"
    (unfinished / "state").mkdir(parents=True)
    # A reader leaves it alone: the run may be saving it.
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.load_weights().step == 3
    assert unfinished.exists()
    assert_equal(restore(tmp_path), make_state(3))
    assert not unfinished.exists()


def test_saves_leave_no_descriptors_and_threads_behind(tmp_path):
    """Orbax ends the thread of a save only when its result is asked for: a run died after 327 saves."""

    def figures() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    with Checkpoints(tmp_path, keep=Keep(2)) as checkpoints:
        for step in range(1, 13):
            checkpoints.save(make_state(step), MODEL)
            if step == 3:
                checkpoints.wait()
                before = figures()
        checkpoints.wait()
        assert all(now <= then for now, then in zip(figures(), before, strict=True))


def test_what_ran_out_is_named(tmp_path, monkeypatch):
    def no_more_files(*arguments, **options):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(ocp.training.Checkpointer, "save_async", no_more_files)
    message = r"may open no more files; none was saved before; raise the limit \(ulimit -n\), and the same"
    with pytest.raises(CheckpointError, match=message):
        save(tmp_path, 3)
