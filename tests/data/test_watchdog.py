"""A stalled feed is reported, replaced once with the same results, and then given up; signals end it."""

import contextlib
import dataclasses
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mcl_jax.data.feed.loaders import HostShare, SequenceLoader, TrainLoader
from mcl_jax.data.feed.prefetch import prefetched
from mcl_jax.data.feed.sampling import FrameSampling
from mcl_jax.data.feed.watchdog import StalledError
from mcl_jax.data.feed.worker_status import StatusBoard, WorkerStatus, state_of
from mcl_jax.data.sequences import SequenceRef, Split
from mcl_jax.runtime.preemption import PreemptedError, Preemption

SEQUENCES = tuple(SequenceRef(f"{s:03d}", "nm-01", f"{v:03d}", "") for s in range(2) for v in range(3))
HANGS = SEQUENCES[4]  # 001/nm-01/001


@dataclasses.dataclass(frozen=True)
class HangingSource:
    """Stops its process, or the thread, at one sequence: at the first reading, or at each."""

    mark: Path
    stop: bool
    always: bool

    def read(self, sequence: SequenceRef) -> np.ndarray:
        if sequence == HANGS and (self.always or not self.mark.exists()):
            self.mark.touch()
            if self.stop:
                os.kill(os.getpid(), signal.SIGSTOP)
            else:
                time.sleep(60)
        return np.full((4, 64, 64), int(sequence.subject) * 3 + int(sequence.view), np.uint8)


def sequences(tmp_path: Path, *, stop: bool, always: bool = False) -> SequenceLoader:
    return SequenceLoader(SEQUENCES, HangingSource(tmp_path / "mark", stop, always))


def greys(results) -> list[int]:
    return [int(result["frames"][0, 0, 0]) for result in results]


@contextlib.contextmanager
def no_process_stays():
    before = set(multiprocessing.active_children())
    yield
    assert set(multiprocessing.active_children()) <= before


def test_a_stopped_worker_is_named_and_replaced_and_no_result_differs(tmp_path, caplog):
    with no_process_stays(), prefetched(sequences(tmp_path, stop=True), range(6), 2, timeout=6) as results:
        assert greys(results) == list(range(6))
    assert re.fullmatch(
        r"data\.timeout: no batch for 6 s: waiting for sequence \d of 6 from worker 0 of 2 "
        r"\(process \d+, stopped\), which is at sequence 001/nm-01/001 of sequence 5 of 6; "
        r"replacing it, once",
        "\n".join(record.getMessage() for record in caplog.records),
    )


@pytest.mark.slow
def test_a_second_hang_gives_up(tmp_path):
    hanging = sequences(tmp_path, stop=True, always=True)
    with no_process_stays(), prefetched(hanging, range(4, 6), 1, timeout=4) as results:
        with pytest.raises(
            StalledError, match=r"sequence 001/nm-01/001 .*; it was replaced once already; check"
        ):
            next(results)
        assert list(results) == []


def test_a_hanging_thread_is_abandoned(tmp_path, caplog):
    split = Split(SEQUENCES, ("000", "001"), HangingSource(tmp_path / "mark", False, False))
    loader = TrainLoader(
        split,
        batch=(2, 3),
        frames=FrameSampling("fixed_unordered", frames=2),
        augmentation=(("cut", 1.0),),
        seed=0,
        share=HostShare(),
    )
    with prefetched(loader, range(3), 0, timeout=1) as results:
        batches = list(results)
    assert (
        "waiting for step 1 from the reading thread (waiting), which is at sequence 001/nm-01/001 of step 1"
        in (caplog.text)
    )
    for step, batch in enumerate(batches):
        for key, expected in loader(step).items():
            assert np.array_equal(batch[key], expected)
    assert len(batches) == 3


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 1), (signal.SIGTERM, 0)])
def test_a_signal_ends_the_wait_and_the_stopped_worker(tmp_path, number, workers):
    hanging = sequences(tmp_path, stop=workers > 0, always=True)
    with no_process_stays(), prefetched(hanging, range(4, 6), workers) as results, Preemption() as preemption:
        preemption.note_unsaved_step()

        def ask() -> None:
            while not (tmp_path / "mark").exists():
                time.sleep(0.05)
            os.kill(os.getpid(), number)

        threading.Thread(target=ask).start()
        with (
            pytest.raises(PreemptedError, match=f"leaving on {number.name}"),
            preemption.interruptible(alone=True),
        ):
            next(results)


HANG_FOREVER = """
import sys
from pathlib import Path
sys.path.append({tests!r})
from test_watchdog import prefetched, sequences
from mcl_jax.cli.exit_code import exit_code

def work():
    hanging = sequences(Path({folder!r}), stop=False, always=True)
    with prefetched(hanging, range(4, 6), 0, timeout=0.2) as results:
        next(results)

sys.exit(exit_code(work))
"""


def test_a_process_ends_whose_thread_hangs(tmp_path):
    code = HANG_FOREVER.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "error: data.timeout: no batch for 0.2 s: waiting for sequence 5 of 6"
    )
    assert "Traceback" not in done.stderr


def test_notes_are_each_workers_own():
    board = StatusBoard(2)
    assert board.read(1) == WorkerStatus(None, None, None)
    board.begin(1, 77)
    board.note(1, 5, 0)
    assert board.read(1) == WorkerStatus(77, 5, 0)
    board.rest(1)
    assert board.read(1) == WorkerStatus(77, None, None)
    assert board.read(0) == WorkerStatus(None, None, None)
    board.free()


def test_the_state_of_a_process_in_words():
    with subprocess.Popen(["sleep", "60"]) as process:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        assert state_of(process.pid) == "stopped"
        process.kill()
    assert state_of(process.pid) == ""


@pytest.mark.parametrize("poll", [0.2, 30])  # ours asks first, or Grain
def test_a_script_without_a_main_guard_gets_an_explanation(people, tmp_path, poll):
    script = tmp_path / "script.py"
    script.write_text(
        f"""
from pathlib import Path

from mcl_jax.data.feed import watchdog
from mcl_jax.data.feed.loaders import SequenceLoader
from mcl_jax.data.feed.prefetch import prefetched
from mcl_jax.data.stores.tree import PklSource, scan_tree

watchdog._POLL_SECONDS = {poll}
sequences = tuple(scan_tree(Path({str(people)!r})))
with prefetched(SequenceLoader(sequences, PklSource()), range(4), 1) as results:
    print(len(list(results)))
"""
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert "a worker failed to start" in done.stderr.splitlines()[-1]
