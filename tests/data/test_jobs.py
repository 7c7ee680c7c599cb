"""Preparation jobs: a killed worker, a damaged log and wrong options give one line."""

import dataclasses
import json
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from mcl_jax.data.prepare.jobs import Job, Outcome, run_jobs
from mcl_jax.data.stores.job_log import JOB_LOG, is_unfinished
from mcl_jax.data.stores.manifest import StoredSequence
from mcl_jax.errors import DataError

JOBS = [Job(name, name, "stamp", 1) for name in ("a", "b", "c")]
ORIGIN = {"kind": "test"}


@dataclasses.dataclass(frozen=True)
class WriteName:
    """Writes the name of a job; dies where it is told to."""

    folder: Path
    deadly: str = ""
    seconds: float = 0.0

    def __call__(self, job: Job[str]) -> Outcome:
        if job.work == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.seconds)
        (self.folder / job.name).write_text(job.work)
        return Outcome(job.name, job.stamp, len(job.work), (StoredSequence(job.work, "x", "y", 1),))


def run(folder, workers=0, deadly=""):
    return run_jobs(WriteName(folder, deadly), JOBS, folder, ORIGIN, workers=workers, progress=False)


def test_a_killed_worker_is_one_line_and_the_next_run_goes_on(tmp_path):
    with pytest.raises(
        DataError, match="^a worker process was killed, .* run the same command again"
    ) as error:
        run(tmp_path, workers=2, deadly="c")
    assert "\n" not in str(error.value)
    assert is_unfinished(tmp_path)
    assert [outcome.name for outcome in run(tmp_path).outcomes] == ["a", "b", "c"]
    assert not is_unfinished(tmp_path)
    assert run(tmp_path).new == 0


@pytest.mark.parametrize(
    "line",
    [
        {},
        {"name": "a"},
        {"name": 5, "stamp": "stamp", "size": 1, "sequences": [], "issues": []},
        {"name": "a", "stamp": "stamp", "size": "1", "sequences": [], "issues": []},
        {"name": "a", "stamp": "stamp", "size": 1, "sequences": [["a"]], "issues": []},
        {"name": "a", "stamp": "stamp", "size": 1, "sequences": [["a", "x", "y", "1"]], "issues": []},
        {"name": "a", "stamp": "stamp", "size": 1, "sequences": [], "issues": [5]},
    ],
)
def test_a_job_with_a_damaged_log_line_is_done_again(tmp_path, line):
    expected = run(tmp_path)
    header, _, *others = (tmp_path / JOB_LOG).read_text().splitlines()
    (tmp_path / JOB_LOG).write_text("\n".join([header, json.dumps(line), *others]))
    repaired = run(tmp_path)
    assert (repaired.new, repaired.outcomes) == (1, expected.outcomes)


def test_a_negative_number_of_workers_is_refused(tmp_path):
    with pytest.raises(DataError, match="--workers: -1; give 0 or more"):
        run(tmp_path, workers=-1)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("delay", [0, 0.02, 0.05])
def test_a_worker_killed_while_others_start_does_not_block(tmp_path, delay):
    def kill_the_first_worker():
        while not (workers := multiprocessing.active_children()):
            time.sleep(0.001)
        time.sleep(delay)
        os.kill(workers[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_the_first_worker, daemon=True)
    killer.start()
    jobs, task = [Job(str(i), str(i), "stamp", 1) for i in range(1000)], WriteName(tmp_path, seconds=0.05)
    with pytest.raises(DataError, match="^a worker process was killed"):
        run_jobs(task, jobs, tmp_path, ORIGIN, workers=2, progress=False)
    killer.join()
    assert not multiprocessing.active_children()
