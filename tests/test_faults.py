"""Faults of a run: non-finite numbers, signals, two runs in one folder, another config."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from toy_runs import ROOT, command, flags, toy_config

from mcl_jax.data.feed.watchdog import StalledError
from mcl_jax.data.stores.tree import PklSource
from mcl_jax.errors import CheckpointError, ConfigError, UserError
from mcl_jax.evaluate import test as evaluate_run
from mcl_jax.runtime.preemption import TIME_IS_UP, PreemptedError, Preemption
from mcl_jax.train_loop import train
from mcl_jax.weights.load import load_weights
from mcl_jax.workdir.checkpoints import Checkpoints
from mcl_jax.workdir.history import changes, record_stretch
from mcl_jax.workdir.location import check_workdir
from mcl_jax.workdir.lock import RUN_LOCK, held


def all_saved(workdir) -> list[int]:
    return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


@pytest.mark.parametrize("lr", [1e30, pytest.param(3e38, marks=pytest.mark.slow)])
def test_an_update_that_is_not_finite_stops_the_run_and_is_never_saved(people, tmp_path, lr):
    config = toy_config(people)
    config.optimizer.lr, config.train.steps, config.train.save_every = lr, 5, 1
    with pytest.raises(
        UserError, match=r"at step \d+.*; the state before it .* lower optimizer.lr"
    ) as stopped:
        train(config, tmp_path)
    report = json.loads((tmp_path / "nonfinite" / "report.json").read_text())
    assert re.search(rf"at step {report['step']}\b", str(stopped.value))
    lost = lr == 1e30  # the first update is finite then, but no loss or gradient follows from it
    assert ("but the update is not finite" in str(stopped.value)) != lost
    assert ("remove the newest checkpoints" in str(stopped.value)) == lost
    assert len(report["sequences"]) == 4
    before = load_weights(tmp_path / "nonfinite")
    assert before.step == report["step"] - 1
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(before.params))
    if (tmp_path / "checkpoints").is_dir() and all_saved(tmp_path):
        assert load_weights(tmp_path).step == before.step


@pytest.mark.slow
@pytest.mark.parametrize("lr", [1e30, 3e38])
def test_a_run_goes_on_after_an_update_that_was_not_finite(people, tmp_path, lr):
    config = toy_config(people)
    config.optimizer.lr, config.train.steps, config.train.save_every = lr, 5, 1
    with pytest.raises(UserError, match="lower optimizer.lr"):
        train(config, tmp_path)
    # With a rate that works, the run goes on from where it was, or from before a state that was lost already.
    if lr == 1e30:
        shutil.rmtree(tmp_path / "checkpoints" / str(load_weights(tmp_path / "nonfinite").step))
    config.optimizer.lr = 0.01
    train(config, tmp_path, accept_changes=True)
    assert load_weights(tmp_path).step == 5


@pytest.mark.slow
def test_skipping_leaves_updates_out_up_to_a_limit(people, tmp_path):
    config = toy_config(people)
    config.optimizer.lr, config.train.steps = 3e38, 6
    config.train.on_nonfinite, config.train.max_skipped = "skip", 2
    with pytest.raises(UserError, match="3 in a row") as stopped:
        train(config, tmp_path)
    assert "on_nonfinite" not in str(stopped.value)


def test_a_state_that_is_not_finite_is_not_saved(tmp_path):
    from toy_states import MODEL, make_state

    state = jax.tree.map(
        lambda x: x + np.asarray(np.nan, x.dtype) if x.dtype == np.float32 else x, make_state(3)
    )
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError, match="not finite"):
        checkpoints.save(state, MODEL)


@pytest.mark.slow
def test_another_config_is_listed_and_overwrites_nothing(people, tmp_path):
    config = toy_config(people)
    config.train.steps = 1
    train(config, tmp_path)
    before = (tmp_path / "config_train.json").read_bytes()
    config.optimizer.lr, config.seed, config.train.log_every, config.train.steps = 0.2, 1, 2, 2
    with pytest.raises(ConfigError, match=r"optimizer.lr was 0.1 and is 0.2; seed was 0 and is 1; undo the"):
        train(config, tmp_path)
    assert (tmp_path / "config_train.json").read_bytes() == before
    # Nothing is trained then, so nothing is mixed.
    config.train.steps = 1
    assert train(config, tmp_path)["scores"]
    assert (tmp_path / "config_train.json").read_bytes() == before
    config.train.steps = 2
    train(config, tmp_path, accept_changes=True)
    stretches = [json.loads(line) for line in (tmp_path / "stretches.jsonl").read_text().splitlines()]
    assert [s["from_step"] for s in stretches] == [0, 1]
    assert len(stretches[1]["accepted_changes"]) == 2


def test_arguments_that_a_model_came_to_have_later_are_no_change(people, tmp_path):
    config = toy_config(people)
    record_stretch(config, tmp_path, 0, [])
    line = json.loads((tmp_path / "stretches.jsonl").read_text())
    for key in ("layers", "strides", "max_pool", "bins"):
        del line["config"]["model"][key]
    (tmp_path / "stretches.jsonl").write_text(json.dumps(line) + "\n")
    assert changes(config, tmp_path) == []
    config.model.strides = (1, 2, 1, 1)
    assert changes(config, tmp_path) == ["model.strides was [1, 2, 2, 1] and is [1, 2, 1, 1]"]


def test_keys_of_later_versions_that_are_off_are_no_change(people, tmp_path):
    config = toy_config(people)
    record_stretch(config, tmp_path, 0, [])
    line = json.loads((tmp_path / "stretches.jsonl").read_text())
    for key in ("ema", "accumulate"):
        del line["config"]["train"][key]
    (tmp_path / "stretches.jsonl").write_text(json.dumps(line) + "\n")
    assert changes(config, tmp_path) == []
    config.train.ema, config.train.accumulate = 0.9, 2
    assert changes(config, tmp_path) == [
        "train.accumulate was 1 and is 2",
        "train.ema was absent and is 0.9",
    ]


def test_a_workdir_has_one_run(tmp_path):
    """In one process too: each opens the file anew, and the system's lock is of the opened file."""
    path = tmp_path / "run" / RUN_LOCK
    with held(path):
        holder = f"another run .*, process {os.getpid()} on .* since 20"
        with pytest.raises(UserError, match=holder), held(path):
            pass
    with held(path):
        pass


def test_two_tests_do_not_write_into_one_folder(toy_run, people):
    with held(toy_run / "test.lock"), pytest.raises(UserError, match="another run uses this workdir"):
        evaluate_run(toy_config(people), toy_run)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_leaves_with_a_true_line(people, tmp_path, number, code):
    settings = [*flags(people), "--config.train.steps=300"]
    line, environment = command(f"--workdir={tmp_path / 'left'}", *settings)
    with subprocess.Popen(
        line, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for printed in process.stdout:
            if printed.startswith("step 9/"):
                process.send_signal(number)
                break
        _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    step = load_weights(tmp_path / "left").step
    assert step >= 9
    assert f"leaving on {number.name}: saved step {step}; the same command goes on" in errors
    with held(tmp_path / "left" / RUN_LOCK):
        pass
    assert "Traceback" not in errors


def test_the_time_limit_has_its_own_exit_code():
    preemption = Preemption(max_minutes=0)
    preemption.note_unsaved_step()  # else the process would end right here
    with preemption:
        until = time.monotonic() + 10
        while not preemption.requested and time.monotonic() < until:
            time.sleep(0.01)
        with (
            pytest.raises(PreemptedError, match="^the time is up: no step is saved") as left,
            preemption.interruptible(alone=True),
        ):
            pass
    assert left.value.code == TIME_IS_UP


@pytest.mark.slow
def test_a_disk_that_does_not_answer_ends_the_run_with_all_of_it_saved(people, tmp_path, monkeypatch, caplog):
    config = toy_config(people)
    config.train.steps, config.data.timeout = 5, 2
    answered = PklSource.read
    reads, ended = itertools.count(), threading.Event()

    def read(source, sequence):
        if next(reads) >= 24 + 3 * 4:  # of the data's fingerprint and three batches
            ended.wait(60)
        return answered(source, sequence)

    monkeypatch.setattr(PklSource, "read", read)
    with pytest.raises(
        StalledError,
        match=r"^data\.timeout: .* waiting for step 4 from .*; saved step 3; the same command goes on$",
    ):
        train(config, tmp_path)
    assert "of step 4; replacing it, once" in caplog.text
    monkeypatch.setattr(PklSource, "read", answered)
    ended.set()
    assert load_weights(tmp_path).step == 3
    train(config, tmp_path)
    assert load_weights(tmp_path).step == 5


@pytest.mark.parametrize(
    ("workdir", "reason"),
    [
        ("/", "a folder of the system"),
        ("/usr", "a folder of the system"),
        ("/etc/run", "a folder of the system"),
        ("/tmp", "a folder of the system"),
        (str(Path.home()), "your home folder"),
        (f"{Path.home()}/x/..", "your home folder"),
        ("n" * 300, "too long"),
        ("a\nb", "cannot be shown"),
        ("\udcff", "cannot be shown"),
        ("gs://bucket/run", "object storage"),
        ("data", "in data.root"),
        ("data/001/run", "in data.root"),
    ],
)
def test_a_run_is_not_strewn_over_a_folder_of_something_else(workdir, reason):
    with pytest.raises(ConfigError, match=rf"^--workdir: .*{reason}"):
        check_workdir(Path(workdir), "data")


@pytest.mark.parametrize("workdir", ["runs/a", "/tmp/a", ".", str(Path.home() / "a"), "/workspace", "dat"])
def test_any_other_folder_may_hold_a_run(workdir):
    check_workdir(Path(workdir), "data")
