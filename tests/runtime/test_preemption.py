"""Signals: a second one within a second is the same request, sent by terminal and launcher."""

import signal
import subprocess
import sys
import time

import pytest

WAIT = """
import signal, sys, time
from mcl_jax.runtime.preemption import Preemption
with Preemption() as preemption:
    preemption.note_unsaved_step()  # there is something to save
    print("ready", flush=True)
    deadline = time.monotonic() + 20
    while not preemption.requested and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(2.5)  # saves
    print("saved", flush=True)
"""


@pytest.mark.parametrize(
    ("pause", "second", "printed", "said"),
    [
        (0.2, signal.SIGINT, "saved", ""),
        (0.2, signal.SIGTERM, "saved", ""),
        (1.5, signal.SIGINT, "", "leaving on SIGINT again: no step is saved yet"),
    ],
)
def test_signals_within_a_second_are_one_request(pause, second, printed, said):
    process = subprocess.Popen(
        [sys.executable, "-c", WAIT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    time.sleep(pause)
    process.send_signal(second)
    out, err = process.communicate(timeout=60)
    assert out.strip() == printed
    assert said in err
    assert bool(err.strip()) == bool(said)
