"""Tests the judge of attacks: it distinguishes every kind of failure from the others and from success."""

import subprocess
import sys
from pathlib import Path

CODE = """
import os, signal, sys, time
sys.path.insert(0, {folder!r})
from mcl_jax.errors import DataError, UserError
from outcomes import attempt
def refuse(text): raise DataError(text)
def reserve(): return str(len(bytes(2**40)))
for answer in {answers!r}:
    print(attempt(lambda: eval(answer), mebibytes=200, seconds=1).outcome.name)
"""
ANSWERS = {
    "'sound'": "SAME",
    "refuse('a line')": "REFUSED",
    r"refuse('two\nlines')": "TRACEBACK",
    r"refuse('\x1b[31m')": "REFUSED",  # it is printed as an escape
    "1 / 0": "TRACEBACK",
    "sys.exit(0)": "TRACEBACK",
    "os.kill(os.getpid(), signal.SIGSEGV)": "SIGNAL",
    "os._exit(0)": "SIGNAL",
    "time.sleep(99)": "LIMIT",
    "str(10**9**9)": "LIMIT",
    "reserve()": "LIMIT",
}


def test_every_end_is_told_from_the_others():
    code = CODE.format(folder=str(Path(__file__).parent), answers=list(ANSWERS))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert dict(zip(ANSWERS, done.stdout.split(), strict=True)) == ANSWERS


def test_a_silent_difference_is_a_failure(tmp_path):
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from rounds import Round
from targets.base import Stored
class Careless(Stored):
    harm_is = "bits"
    def make(self, folder): (folder / "file").write_bytes(bytes(9))
    def answer(self, folder): return (folder / "file").read_bytes().hex()
one = Round("careless", Careless(), 0, None)
one.run(5, 60)
print(len(one.failures), {{failure.end.outcome.name for failure in one.failures}})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "5 {'SILENT'}"
