"""The process that compiles ends with the one that started it, and its end is an error that has a reason."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mcl_jax.gpu_check.child import CompilerAbortError, apart


def test_an_abort_is_an_error():
    with pytest.raises(CompilerAbortError, match="XLA's GPU compiler aborted"):
        apart(os.abort)


PARENT = """
import os, pathlib, sys, time
from mcl_jax.gpu_check.child import apart

def compile_long(path):
    pathlib.Path(path).write_text(str(os.getpid()))
    time.sleep(300)

if __name__ == "__main__":
    apart(compile_long, sys.argv[1])
"""


def test_it_does_not_outlive_a_killed_parent(tmp_path):
    script, started = tmp_path / "parent.py", tmp_path / "started"
    script.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, str(script), str(started)])
    child = int(_until(lambda: started.exists() and started.read_text()))
    parent.kill()
    parent.wait()
    _until(lambda: not _is_running(child))


def _is_running(process: int) -> bool:
    try:  # of a process that has ended and waits to be asked for its status, this is empty
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())
    except FileNotFoundError:
        return False


def _until(condition, seconds=60.0):
    """Returns a value of the condition that is true, as soon as it is."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return value
