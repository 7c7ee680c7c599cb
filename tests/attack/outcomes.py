"""One try: reads a damaged input in a separate process under limits, and judges the outcome."""

import enum
import hashlib
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mcl_jax.errors import UserError
from mcl_jax.utils.terminal import printable


class Outcome(enum.StrEnum):
    """What a try can end with."""

    SAME = "the same"
    REFUSED = "refused in a line"
    OTHER = "another answer"
    SILENT = "SILENT DIFFERENCE"
    SIGNAL = "SIGNAL"
    TRACEBACK = "TRACEBACK"
    LIMIT = "OVER A LIMIT"

    @property
    def is_failure(self) -> bool:
        return self in (Outcome.SILENT, Outcome.SIGNAL, Outcome.TRACEBACK, Outcome.LIMIT)


_PATIENCE = 10  # times as long as its CPU seconds may a try take on a busy machine


class End(NamedTuple):
    """How a process ended: with an answer (its digest), a line, or one of the failures (and which)."""

    outcome: Outcome
    detail: str


def attempt(answer: Callable[[], str], *, mebibytes: int, seconds: int) -> End:
    """Forks a process that gives the answer; returns its end, SAME for any answer.

    Args:
        answer: what it does.
        mebibytes: memory that it may take beyond what this process has.
        seconds: of CPU time.
    """
    receive, send = os.pipe()
    pid = os.fork()
    if not pid:
        _child(answer, send, mebibytes, seconds)
    os.close(send)
    try:
        written = _read(receive, time.monotonic() + _PATIENCE * seconds + 10)
        if written is None:
            return End(Outcome.LIMIT, "it hangs, and no alarm ends it")
    finally:
        os.close(receive)
        _end_group(pid)  # and with it what it has started
        _, status = os.waitpid(pid, 0)
    if written:
        outcome, detail = json.loads(written)
        return End(Outcome(outcome), detail)
    number = signal.Signals(os.WTERMSIG(status)) if os.WIFSIGNALED(status) else None
    if number in (signal.SIGALRM, signal.SIGXCPU):
        return End(Outcome.LIMIT, f"{seconds} s" if number == signal.SIGXCPU else "it hangs")
    return End(Outcome.SIGNAL, number.name if number else f"exit code {os.WEXITSTATUS(status)}")


def _end_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(pid, signal.SIGKILL)  # it has not come to make a group of its own, and is not waited for yet


def _read(descriptor: int, until: float) -> bytes | None:
    written = b""
    while (left := until - time.monotonic()) > 0:
        if select.select([descriptor], [], [], left)[0]:
            if not (piece := os.read(descriptor, 2**16)):
                return written
            written += piece
            if written.endswith(b"\n"):
                return written
    return None


def _child(answer: Callable[[], str], send: int, mebibytes: int, seconds: int) -> None:
    """Gives the answer, writes a line about it, and ends the process."""
    try:
        os.setpgid(0, 0)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        _limit(mebibytes, seconds)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, in whatever code it is
        signal.alarm(_PATIENCE * seconds)
        os.write(send, json.dumps(_judged(answer)).encode() + b"\n")
    finally:
        os._exit(1)


def _limit(mebibytes: int, seconds: int) -> None:
    import resource

    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = now + mebibytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _judged(answer: Callable[[], str]) -> tuple[Outcome, str]:
    try:
        return Outcome.SAME, hashlib.sha256(answer().encode("utf-8", "surrogatepass")).hexdigest()
    except UserError as error:
        line = printable(str(error))  # as wherever it is printed or logged
        if line.isprintable() and 0 < len(line) < 2000:
            return Outcome.REFUSED, line
        return Outcome.TRACEBACK, f"not one printable line: {line[:300]!r}"
    except MemoryError:
        return Outcome.LIMIT, "memory"
    except BaseException as error:  # whatever else there is, is what is looked for
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.lineno}"
        return Outcome.TRACEBACK, f"{type(error).__name__}: {str(error)[:300]} ({place})"


def run_apart(work: Callable[[], None]) -> None:
    """Does something in a forked process, so that this one stays free of threads.

    Raises:
        SystemExit: it failed.
    """
    pid = os.fork()
    if not pid:
        try:
            work()
            sys.stdout.flush()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    if os.waitpid(pid, 0)[1]:
        raise SystemExit("what is to be attacked cannot be made")
