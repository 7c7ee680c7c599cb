"""Preemption: on SIGTERM, Ctrl-C or a time limit a run finishes its step, saves, and exits.

Python's signal handlers do not run while the main thread compiles or waits for a device. So a second thread
listens to the signals too, and exits the process as soon as that loses no step.
"""

import contextlib
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Self

TIME_IS_UP = 75
"""Exit code at the time limit: try again (EX_TEMPFAIL). A signal's is 128 and its number, as in shells."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LONGEST_WAIT_SECONDS = 20.0
_ONE_REQUEST_SECONDS = 1.0
"""Signals within this time are one request: a terminal and a launcher may both send one."""

_QUIET_TRACKER = "ignore:resource_tracker:UserWarning"
"""Python's tracker of shared memory cleans up at exit; this hides its warning after "saved"."""


class PreemptedError(Exception):
    """The run was asked to end before its last step; its state is saved."""

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code


class _InterruptedError(BaseException):
    """Raised by the signal handler while the run waits for a batch."""


class Preemption:
    """Watches for signals and the time limit, and says when the run should end; a context manager."""

    def __init__(self, max_minutes: float | None = None):
        """Starts the clock of the time limit; None sets no limit."""
        self._deadline = None if max_minutes is None else time.monotonic() + max_minutes * 60
        self._request: tuple[str, int] | None = None  # the reason, and the exit code
        self._saved: int | None = None
        self._unsaved = False
        self._interruptible_since: float | None = None
        self._alone = True
        self._done = threading.Event()

    def __enter__(self) -> Self:
        if _QUIET_TRACKER not in sys.warnoptions:
            sys.warnoptions.append(_QUIET_TRACKER)  # handed to the tracker when it starts
        self._before = {number: signal.signal(number, self._interrupt) for number in _SIGNALS}
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, name="preemption", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._thread.join()
        os.close(self._read)
        os.close(self._write)

    @property
    def requested(self) -> bool:
        """Whether the run should end after this step."""
        return self._request is not None

    def note_saved(self, step: int | None) -> None:
        """Notes that the newest step is on disk, so the process may exit at any time.

        Args:
            step: the newest saved step; None if no step is saved.
        """
        self._saved, self._unsaved = step, False

    def note_unsaved_step(self) -> None:
        """Notes that some steps are not on disk yet, so the process must save before it exits."""
        self._unsaved = True

    @contextlib.contextmanager
    def interruptible(self, *, alone: bool) -> Iterator[None]:
        """Context in which the main thread waits for a batch, and a signal ends the wait.

        Args:
            alone: whether this is the only host. Several hosts must end at the same step, so they give
                up only a long wait.

        Raises:
            PreemptedError: see `error`; the caller still has to save unsaved steps.
        """
        self._alone, self._interruptible_since = alone, time.monotonic()
        try:
            if alone and self.requested:
                raise _InterruptedError
            yield
        except _InterruptedError:
            raise self.error() from None
        finally:
            self._interruptible_since = None

    def error(self) -> PreemptedError:
        """Returns the error to end the run with: why, what is saved, and how to go on."""
        reason, code = self._request or ("leaving, because another host was asked to", TIME_IS_UP)
        return PreemptedError(f"{reason}: {self.resume_hint()}", code)

    def resume_hint(self) -> str:
        """Returns which step is saved, and how to go on."""
        if self._saved is None:
            return "no step is saved yet; the same command starts again"
        return f"saved step {self._saved}; the same command goes on"

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Signal handler: ends a wait for a batch; the loop and the second thread do the rest."""
        if self._request is None:
            self._request = _reason(number)
        if self._interruptible_since is not None and self._alone:
            self._interruptible_since = None
            raise _InterruptedError

    def _listen(self) -> None:
        first: float | None = None
        while not self._done.is_set():
            if select.select([self._read], [], [], 0.2)[0]:
                for number in os.read(self._read, 64):
                    if number in _SIGNALS:
                        first = first or time.monotonic()
                        self._request = self._request or _reason(number)
                        if time.monotonic() - first > _ONE_REQUEST_SECONDS:
                            self._end(f"{_reason(number)[0]} again")
            if self._request is None and self._deadline is not None and time.monotonic() > self._deadline:
                self._request = ("the time is up", TIME_IS_UP)
            if self._request is not None and (not self._unsaved or self._waits_too_long()):
                self._end(self._request[0])

    def _waits_too_long(self) -> bool:
        since = self._interruptible_since
        return since is not None and time.monotonic() - since > _LONGEST_WAIT_SECONDS

    def _end(self, reason: str) -> None:
        """Exits the process at once, wherever the main thread is."""
        if self._done.is_set():
            return
        print(f"{reason}: {self.resume_hint()}", file=sys.stderr, flush=True)
        for process in multiprocessing.active_children():
            process.kill()
        os._exit(self._request[1] if self._request else 1)


def exit_quietly_on_interrupt() -> None:
    """Makes Ctrl-C exit with one line during imports, before `cli.exit_code` handles it."""
    signal.signal(signal.SIGINT, _exit_quietly)


def _exit_quietly(number: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted before anything began\n")  # not print, which could interrupt another print
    os._exit(128 + number)


def _reason(number: int) -> tuple[str, int]:
    name = signal.Signals(number).name
    return f"leaving on {name}", 128 + number
