"""Worker processes that make results through a ring of shared memory, watched over: none hangs unnoticed."""

import functools
import multiprocessing
import traceback
from multiprocessing.connection import Connection
from typing import Any, Protocol

import numpy as np
from absl import logging

from mcl_jax.data.feed.ring import Arrays, Empty, Ring, RingClosedError
from mcl_jax.data.workers import live_with_parent, started_without_signals
from mcl_jax.errors import UserError

_NAMES_SHOWN = 8
_LARGE_BLOCK = 24 << 20


class Loader(Protocol):
    """Makes the result of a position; picklable, so that worker processes can have one each."""

    @property
    def nbytes(self) -> int:
        """Bytes of the largest result."""

    def names(self, position: int, /) -> list[str]:
        """Returns the names of the sequences that the result of a position is made of."""

    def __call__(self, position: int, empty: Empty = np.empty, /) -> Any:
        """Returns a dict of arrays, all made by empty(shape, dtype)."""


class Team:
    """Workers 0 … W − 1; the n-th result is made by worker n modulo W."""

    def __init__(self, loader: Loader, positions: range, ring: Ring, workers: int, timeout: float):
        """Starts them.

        Args:
            loader: makes the result of a position.
            positions: of the results, in order.
            ring: where they are put.
            workers: how many, at least 1.
            timeout: the seconds that a result is waited for; 0 for ever.
        """
        self._loader, self._positions, self._ring = loader, positions, ring
        self._timeout = timeout
        self._workers = [_Worker(loader, positions, ring, n, workers) for n in range(workers)]

    def take(self, number: int) -> Arrays:
        """Returns the n-th result; the calls go through them in order.

        A worker that does not bring it in time is replaced, once.

        Raises:
            UserError: what the loader raised; or if neither brought it, or a worker was killed.
        """
        index = number % len(self._workers)
        if not self._workers[index].brings(self._timeout):
            logging.warning("%s; another takes its place", self._late(number))
            self._workers[index].end()
            self._workers[index] = _Worker(
                self._loader, self._positions, self._ring, number, len(self._workers)
            )
            if not self._workers[index].brings(self._timeout):
                raise UserError(
                    f"{self._late(number)}, nor from the one before it; see whether their disk answers, or "
                    "set a longer data.timeout"
                )
        try:
            result = self._workers[index].pipe.recv()
        except (EOFError, OSError):
            raise UserError(
                "data.workers: a worker process was ended from outside, most often for want of memory; lower "
                "data.workers, and start again"
            ) from None
        if isinstance(result, Exception):
            raise result
        return self._ring.take(result)

    def end(self) -> None:
        """Ends all, whatever they do."""
        for worker in self._workers:
            worker.end()

    def _late(self, number: int) -> str:
        index, position = number % len(self._workers), self._positions[number]
        pid = self._workers[index].process.pid
        return f"{late(self._loader, position, self._timeout)} from worker {index} (process {pid})"


def late(loader: Loader, position: int, timeout: float) -> str:
    """Returns that the result of a position did not come, and of which sequences it is."""
    names = loader.names(position)
    shown = ", ".join(names[:_NAMES_SHOWN])
    if len(names) > _NAMES_SHOWN:
        shown += f" and {len(names) - _NAMES_SHOWN} more"
    return f"data.timeout: no batch for {timeout:g} s, waiting for number {position + 1} ({shown})"


class _Worker:
    """One of them, that makes every stride-th result from the first on."""

    def __init__(self, loader: Loader, positions: range, ring: Ring, first: int, stride: int):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe(duplex=False)
        numbers = range(first, len(positions), stride)
        self.process = context.Process(
            target=_work, args=(theirs, loader, positions, ring, numbers), daemon=True
        )
        started_without_signals(self.process)
        theirs.close()  # so that the pipe ends when the process does

    def brings(self, timeout: float) -> bool:
        """Returns whether there is a result, or an end, within the time."""
        return self.pipe.poll(timeout or None)

    def end(self) -> None:
        self.process.kill()  # one that is stopped, or waits for a disk, hears nothing else
        self.process.join()
        self.pipe.close()


def _work(pipe: Connection, loader: Loader, positions: range, ring: Ring, numbers: range) -> None:
    live_with_parent()
    keep_freed_memory()
    for number in numbers:
        try:
            pipe.send(ring.put(number, functools.partial(loader, positions[number])))
        except RingClosedError:
            return
        except Exception as error:
            if not isinstance(error, UserError):
                error.add_note(traceback.format_exc())
            pipe.send(error)
            return


def keep_freed_memory() -> None:
    """Has glibc reuse freed memory instead of giving it back to the kernel.

    It keeps about as much as the largest block that was ever freed. Sequences of half a megabyte would be
    given back and asked for again one by one, for which the kernel zeroes every page: half the time it takes
    to feed them.
    """
    np.empty(_LARGE_BLOCK, np.uint8)
