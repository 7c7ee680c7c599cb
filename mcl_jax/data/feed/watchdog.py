"""Detects a stalled data feed, names the worker that hangs, replaces the workers once, and then gives up.

A thread takes the results from Grain's iterator, so that a wait can be ended by a signal or a time limit.
Every result is a pure function of its position, so a feed restarted at the first missing result continues
with the same results.
"""

import contextlib
import multiprocessing
import queue
import threading
import time
from collections.abc import Callable, Generator
from typing import Any, Protocol, Self

from absl import logging

from mcl_jax.data.feed.worker_status import StatusBoard, ThreadStatusBoard, state_of
from mcl_jax.errors import UserError

_POLL_SECONDS = 0.2
# A worker may import its modules from a slow disk for this long, even if data.timeout is shorter.
_START_SECONDS = 60.0
# On closing, workers usually end by themselves within a second; after this time they are killed.
_CLOSE_SECONDS = 3.0
_KILLED_SECONDS = 5.0


class StalledError(UserError):
    """No result came for `data.timeout` seconds, even after the workers were replaced."""


def failed_to_start() -> UserError:
    """Returns the error of a worker that ended while importing its modules."""
    return UserError(
        "data.workers: a worker failed to start; "
        'scripts have to call mcl_jax under `if __name__ == "__main__":`, or with data.workers=0'
    )


class Named(Protocol):
    """Gives names to a loader's positions and sequences, for messages."""

    def position_name(self, position: int, /) -> str:
        """Returns the name of a position."""

    def sequence_name(self, sequence: int, /) -> str:
        """Returns the name of one of the loader's sequences."""


class Feed:
    """Iterator over results made in advance by workers; it ends with an error if they hang."""

    def __init__(
        self,
        names: Named,
        positions: range,
        workers: int,
        start: Callable[[range, StatusBoard], Generator[Any, None, None]],
        timeout: float,
    ):
        """Starts the feed.

        Args:
            names: names of positions and sequences, for messages.
            positions: positions of the results.
            workers: number of processes that make them; 0 for a thread.
            start: function of the remaining positions and of the status board; yields the results.
            timeout: seconds without a result after which the workers are replaced; 0 for never.
        """
        self._names, self._positions, self._workers = names, positions, workers
        self._start, self._timeout = start, timeout
        self._delivered = 0
        self._waiting = self._replaced = self._ended = False
        self._others = set(multiprocessing.active_children())
        self._reader = self._read()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        """Returns the next result.

        Raises:
            UserError: if a worker fails to start.
            StalledError: if no result comes for `data.timeout` seconds, for the second time.
        """
        if self._ended or self._delivered == len(self._positions):
            raise StopIteration
        self._waiting, since = True, time.monotonic()
        while True:
            with contextlib.suppress(queue.Empty):
                result, error = self._reader.next(_POLL_SECONDS)
                self._waiting = False
                if error is not None:
                    self._ended = True
                    raise error
                self._delivered += 1
                return result
            self._check_started()
            if self._timeout and time.monotonic() - since > self._patience():
                self._replace()
                since = time.monotonic()

    def close(self) -> None:
        """Ends the feed and its workers, including those that hang."""
        # Workers that were still awaited may hang, so they are killed at once.
        self._reader.close(0 if self._waiting else _CLOSE_SECONDS)
        self._kill()
        self._reader.close(_KILLED_SECONDS if self._workers else 0)
        self._board.free()

    def _read(self) -> "_Reader":
        positions = self._positions[self._delivered :]
        self._board = board = StatusBoard(self._workers) if self._workers else ThreadStatusBoard()
        self._started: set[multiprocessing.process.BaseProcess] = set()
        return _Reader(lambda: self._start(positions, board))

    def _check_started(self) -> None:
        """Raises an error if a worker failed to start, which Grain notices only much later."""
        if not self._workers or self._begun():
            return
        self._started.update(set(multiprocessing.active_children()) - self._others)
        if any(child.exitcode for child in self._started):
            self._ended = True
            raise failed_to_start()

    def _patience(self) -> float:
        return self._timeout if self._begun() else max(self._timeout, _START_SECONDS)

    def _begun(self) -> bool:
        return self._board.read(self._awaited()).process is not None

    def _awaited(self) -> int:
        """Returns the number of the worker whose turn it is; they take turns."""
        return self._reader.taken % max(self._workers, 1)

    def _replace(self) -> None:
        line = f"data.timeout: no batch for {self._timeout:g} s: {self._stalled_at()}"
        if self._replaced:
            self._ended = True
            raise StalledError(
                f"{line}; it was replaced once already; check whether the disk of data.root responds"
            )
        logging.warning("%s; replacing it, once", line)
        self._replaced = True
        self._kill()
        # A thread cannot be killed; it is abandoned together with its board.
        self._reader.close(_KILLED_SECONDS if self._workers else 0)
        self._board.free()
        self._reader = self._read()

    def _stalled_at(self) -> str:
        worker = self._awaited()
        noted = self._board.read(worker)
        awaited = self._names.position_name(self._positions[self._delivered])
        if self._workers == 0:
            who, state = "the reading thread", state_of(f"self/task/{self._reader.thread}")
        elif noted.process is None:
            return f"waiting for {awaited} from worker {worker} of {self._workers}, which has not started"
        else:
            who = f"worker {worker} of {self._workers}"
            state = f"process {noted.process}, {state_of(noted.process) or 'gone'}"
        if noted.position is None or noted.sequence is None:
            at = "between two results"
        else:
            at = f"at sequence {self._names.sequence_name(noted.sequence)} of "
            at += self._names.position_name(noted.position)
        return f"waiting for {awaited} from {who} ({state}), which is {at}"

    def _kill(self) -> None:
        """Kills the workers that have started, with SIGKILL: stopped ones would not react to SIGTERM."""
        started = {self._board.read(worker).process for worker in range(self._workers)}
        for child in multiprocessing.active_children():
            if child.pid in started:
                child.kill()


class _Reader:
    """Thread that takes results in advance."""

    def __init__(self, results: Callable[[], Generator[Any, None, None]]):
        """Starts the thread."""
        self._results = results
        self._next: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(1)
        self._closing = False
        self.taken = 0
        self._thread = threading.Thread(target=self._read, name="feed", daemon=True)
        self._thread.start()

    @property
    def thread(self) -> int | None:
        """The operating system's number of the thread."""
        return self._thread.native_id

    def next(self, seconds: float) -> tuple[Any, BaseException | None]:
        """Returns the next result, or the error raised in its place; `StopIteration` after the last.

        Raises:
            queue.Empty: if neither comes within `seconds`.
        """
        result, error = self._next.get(timeout=seconds)
        self.taken += error is None
        return result, error

    def close(self, seconds: float) -> bool:
        """Asks the thread to end, and returns whether it did within `seconds`."""
        self._closing = True
        until = time.monotonic() + seconds
        while self._thread.is_alive() and time.monotonic() < until:
            with contextlib.suppress(queue.Empty):
                self._next.get_nowait()
            self._thread.join(0.01)
        return not self._thread.is_alive()

    def _read(self) -> None:
        end: BaseException = StopIteration()
        try:
            with contextlib.closing(self._results()) as results:
                for result in results:
                    self._next.put((result, None))
                    if self._closing:
                        break
        except BaseException as error:  # raised again in the thread that asks for the result
            end = error
        self._next.put((None, end))
