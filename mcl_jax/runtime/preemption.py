"""Leaving in time: on SIGTERM, Ctrl-C or a time limit a run finishes its step, saves, and ends at once.

Python's own signal handlers wait while the main thread compiles or waits for a device, so a thread of ours
hears the signals too, and ends the process where no step would be lost by it.
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
from typing import Any, Self

TIME_IS_UP = 75
"""Exit code at the time limit: try again (EX_TEMPFAIL). A signal's is 128 and its number, as in shells."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_BATCH_GRACE_SECONDS = 20.0


class LeavingError(Exception):
    """The run ends before its last step, as it was asked to; what is to be kept is saved."""

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code


class _NoBatchError(BaseException):
    """Raised by a signal while a batch is waited for."""


class Leaving:
    """Hears, while it is entered, that the process should end; before that it hears nothing."""

    def __init__(self, max_minutes: float | None = None):
        """Takes the time limit, which counts from now; None for none."""
        self._deadline = None if max_minutes is None else time.monotonic() + max_minutes * 60
        self._asked: tuple[str, int] | None = None  # by what, and the exit code
        self._saved: int | None = None
        self._in_hand = False
        self._waiting_since: float | None = None
        self._alone = True
        self._done = threading.Event()
        self._at_exit: list[Any] = []

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._interrupt) for number in _SIGNALS}
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, name="leaving", daemon=True)
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
    def asked(self) -> bool:
        """Whether to leave after this step."""
        return self._asked is not None

    def saved(self, step: int | None) -> None:
        """Says that a step is on disk, and no later one in hand: the process may end at any time.

        Args:
            step: the newest step that is saved; None for none.
        """
        self._saved, self._in_hand = step, False

    def steps_in_hand(self) -> None:
        """Says that steps were done that are not on disk: the process ends after saving them."""
        self._in_hand = True

    def before_ending_at_once(self, function: Any) -> None:
        """Has a function called before the process ends without unwinding."""
        self._at_exit.append(function)

    @contextlib.contextmanager
    def waiting(self, *, alone: bool) -> Iterator[None]:
        """Around waiting for a batch, which a signal ends.

        Args:
            alone: whether this is the only host; else the others decide with it when to leave, and only
                waiting for long is given up.

        Raises:
            LeavingError: see `farewell`; steps in hand are still to be saved.
        """
        self._alone, self._waiting_since = alone, time.monotonic()
        try:
            if alone and self.asked:
                raise _NoBatchError
            yield
        except _NoBatchError:
            raise self.farewell() from None
        finally:
            self._waiting_since = None

    def farewell(self) -> LeavingError:
        """Returns the error to end with: what is saved, and how to go on."""
        reason, code = self._asked or ("leaving, as another host was asked to", TIME_IS_UP)
        return LeavingError(f"{reason}: {self.what_is_saved()}", code)

    def what_is_saved(self) -> str:
        """Returns which step is saved, and how to go on."""
        if self._saved is None:
            return "no step is saved yet; the same command starts again"
        return f"saved step {self._saved}; the same command goes on"

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Runs in the main thread; all but waiting for a batch is left to the other thread and the loop."""
        if self._asked is None:
            self._asked = _reason(number)
        if self._waiting_since is not None and self._alone:
            self._waiting_since = None
            raise _NoBatchError

    def _listen(self) -> None:
        heard = 0
        while not self._done.is_set():
            if select.select([self._read], [], [], 0.2)[0]:
                for number in os.read(self._read, 64):
                    if number in _SIGNALS:
                        heard += 1
                        self._asked = self._asked or _reason(number)
                        if heard > 1:
                            self._end(f"{_reason(number)[0]} again")
            if self._asked is None and self._deadline is not None and time.monotonic() > self._deadline:
                self._asked = ("the time is up", TIME_IS_UP)
            if self._asked is not None and (not self._in_hand or self._has_waited_long()):
                self._end(self._asked[0])

    def _has_waited_long(self) -> bool:
        since = self._waiting_since
        return since is not None and time.monotonic() - since > _BATCH_GRACE_SECONDS

    def _end(self, reason: str) -> None:
        """Ends the process at once, wherever the main thread is."""
        if self._done.is_set():
            return
        print(f"{reason}: {self.what_is_saved()}", file=sys.stderr, flush=True)
        for function in self._at_exit:
            with contextlib.suppress(Exception):
                function()
        for process in multiprocessing.active_children():
            process.kill()
        os._exit(self._asked[1] if self._asked else 1)


def quietly_while_importing() -> None:
    """Has Ctrl-C end this process with one line, until `exit_code` hears it: nothing has begun yet."""
    signal.signal(signal.SIGINT, _end_before_the_start)


def _end_before_the_start(number: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted before anything began\n")  # a print could be inside another
    os._exit(128 + number)


def _reason(number: int) -> tuple[str, int]:
    name = signal.Signals(number).name
    return f"leaving on {name}", 128 + number
