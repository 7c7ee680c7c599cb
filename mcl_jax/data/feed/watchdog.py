"""Notices a stalled data feed, names the worker, restarts it once, and then gives up.

A thread takes the results out of Grain's iterator, so that waiting for one can end: by a signal, or because
nothing came for too long. Every result is a pure function of its position, so a feed that is started again
at the first one that was not delivered goes on with the same results.
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
# A worker that imports its modules from a slow disk is given this long, however short data.timeout is.
_START_SECONDS = 60.0
# At the end workers leave by themselves within a second; the rest are killed.
_CLOSE_SECONDS = 3.0
_KILLED_SECONDS = 5.0


class StalledError(UserError):
    """No result came for `data.timeout` seconds, also after the workers were replaced."""


def ended_before_it_began() -> UserError:
    """Returns the error of a worker that ended while its modules were imported."""
    return UserError(
        "data.workers: a worker ended before it began; "
        'scripts have to call mcl_jax under `if __name__ == "__main__":`, or with data.workers=0'
    )


class Named(Protocol):
    """Names a loader's positions and sequences for messages."""

    def position_name(self, position: int, /) -> str:
        """Returns the name of a position."""

    def sequence_name(self, sequence: int, /) -> str:
        """Returns the name of one of the loader's sequences."""


class Feed:
    """An iterator over results that others make ahead of their use; not endless where they stand still."""

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
            names: of what is under way.
            positions: of the results.
            workers: how many processes make them; 0 for a thread.
            start: function of the positions still to come and of the board to note them on: the results.
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
            UserError: if a worker ends before it begins.
            StalledError: if nothing comes for `data.timeout` seconds, for the second time.
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
            self._refuse_workers_that_never_began()
            if self._timeout and time.monotonic() - since > self._patience():
                self._replace()
                since = time.monotonic()

    def close(self) -> None:
        """Ends the feed and its workers, those that hang as well."""
        # Whoever waits in vain does not want to wait for the end, too.
        self._reader.close(0 if self._waiting else _CLOSE_SECONDS)
        self._kill()
        self._reader.close(_KILLED_SECONDS if self._workers else 0)
        self._board.free()

    def _read(self) -> "_Reader":
        positions = self._positions[self._delivered :]
        self._board = board = StatusBoard(self._workers) if self._workers else ThreadStatusBoard()
        self._started: set[multiprocessing.process.BaseProcess] = set()
        return _Reader(lambda: self._start(positions, board))

    def _refuse_workers_that_never_began(self) -> None:
        """Grain itself notices some of them only much later."""
        if not self._workers or self._begun():
            return
        self._started.update(set(multiprocessing.active_children()) - self._others)
        if any(child.exitcode for child in self._started):
            self._ended = True
            raise ended_before_it_began()

    def _patience(self) -> float:
        return self._timeout if self._begun() else max(self._timeout, _START_SECONDS)

    def _begun(self) -> bool:
        return self._board.read(self._awaited()).process is not None

    def _awaited(self) -> int:
        """Returns the worker whose turn it is: they take turns from the start of the reader on."""
        return self._reader.taken % max(self._workers, 1)

    def _replace(self) -> None:
        line = f"data.timeout: no batch for {self._timeout:g} s: {self._what_hangs()}"
        if self._replaced:
            self._ended = True
            raise StalledError(
                f"{line}; it had been replaced already; see whether the disk of data.root answers"
            )
        logging.warning("%s; it is replaced, once", line)
        self._replaced = True
        self._kill()
        # A thread cannot be killed; it is left where it is, with a board of its own.
        self._reader.close(_KILLED_SECONDS if self._workers else 0)
        self._board.free()
        self._reader = self._read()

    def _what_hangs(self) -> str:
        worker = self._awaited()
        noted = self._board.read(worker)
        awaited = self._names.position_name(self._positions[self._delivered])
        if self._workers == 0:
            who, state = "the reading thread", state_of(f"self/task/{self._reader.thread}")
        elif noted.process is None:
            return f"{awaited} is awaited from worker {worker} of {self._workers}, which has not begun"
        else:
            who = f"worker {worker} of {self._workers}"
            state = f"process {noted.process}, {state_of(noted.process) or 'gone'}"
        if noted.position is None or noted.sequence is None:
            at = "between two of its results"
        else:
            at = f"at sequence {self._names.sequence_name(noted.sequence)} of "
            at += self._names.position_name(noted.position)
        return f"{awaited} is awaited from {who} ({state}), which is {at}"

    def _kill(self) -> None:
        """Kills the workers that have begun; a stopped one would not notice a milder signal."""
        begun = {self._board.read(worker).process for worker in range(self._workers)}
        for child in multiprocessing.active_children():
            if child.pid in begun:
                child.kill()


class _Reader:
    """A thread that takes results ahead of their use."""

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
        """The system's number of the thread."""
        return self._thread.native_id

    def next(self, seconds: float) -> tuple[Any, BaseException | None]:
        """Returns the next result, or the error that came in its place: `StopIteration` after the last.

        Raises:
            queue.Empty: if neither has come after some seconds.
        """
        result, error = self._next.get(timeout=seconds)
        self.taken += error is None
        return result, error

    def close(self, seconds: float) -> bool:
        """Has the thread end, and returns whether it did within some seconds."""
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
        except BaseException as error:  # the thread that asks is to see it, whatever it is
            end = error
        self._next.put((None, end))
