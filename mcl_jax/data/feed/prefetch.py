"""Loads batches in advance, in worker processes or in a thread."""

import contextlib
import dataclasses
import functools
import multiprocessing
import os
from collections.abc import Callable, Generator, Iterator
from typing import Any, Protocol

import numpy as np
from absl import flags

from mcl_jax.data.feed.ring import Empty, Parcel, Ring
from mcl_jax.data.feed.watchdog import Feed, Named, failed_to_start
from mcl_jax.data.feed.worker_status import Note, StatusBoard, ignore_note
from mcl_jax.errors import UserError
from mcl_jax.utils.extras import require_extra
from mcl_jax.utils.workers import live_with_parent

_RESULTS_AHEAD = 2  # finished results of each worker, besides the one it is making

_LARGE_BLOCK = 24 << 20


class Loader(Named, Protocol):
    """Makes the result of a position; picklable, so that each worker process can have its own."""

    @property
    def nbytes(self) -> int:
        """Bytes of the largest result."""

    def __call__(self, position: int, empty: Empty = np.empty, note: Note = ignore_note, /) -> Any:
        """Returns a dict of arrays, all made by empty(shape, dtype); calls note before each sequence."""


@contextlib.contextmanager
def prefetched(
    loader: Loader,
    positions: range,
    workers: int,
    *,
    timeout: float = 0.0,
    then: Callable[[Any], Any] | None = None,
) -> Iterator[Iterator[Any]]:
    """Context that runs loader(position) in advance, in `workers` processes or, with 0, in a thread.

    Args:
        loader: makes the results.
        positions: positions of the results.
        workers: number of processes.
        timeout: seconds without a result after which the workers are replaced, once; 0 for never.
        then: function applied to each result, in a thread of this process, up to two results in advance;
            None for none.

    Yields:
        An iterator over the results, in order. It ends with its first error.

    Raises:
        MissingExtraError: if there are to be workers, and the extra `train` is not installed.
        UserError: if the loader raised it, in a worker or not; if shared memory is too small; or, as
            `StalledError`, if no result came for `timeout` seconds for the second time.
    """
    if workers:
        require_extra("train", "data.workers above 0", "grain")
    keep_freed_memory()

    def start(still: range, board: StatusBoard) -> Generator[Any, None, None]:
        made = _from_workers(loader, still, workers, board) if workers else _in_place(loader, still, board)
        return _each(then, made) if then else made

    with contextlib.closing(Feed(loader, positions, workers, start, timeout)) as feed:
        yield feed


def _each(then: Callable[[Any], Any], results: Generator[Any, None, None]) -> Generator[Any, None, None]:
    with contextlib.closing(results):
        yield from map(then, results)


def _in_place(loader: Loader, positions: range, board: StatusBoard) -> Generator[Any, None, None]:
    """Makes the results in the calling thread, which is the feed's own and a step ahead of training."""
    board.begin(0, os.getpid())
    for position in positions:
        value = loader(position, np.empty, functools.partial(board.note, 0, position))
        board.rest(0)
        yield value


def _from_workers(
    loader: Loader, positions: range, workers: int, board: StatusBoard
) -> Generator[Any, None, None]:
    import grain  # of the extra `train`

    if not flags.FLAGS.is_parsed():  # Grain passes the flags to its workers; library users have none
        flags.FLAGS.mark_as_parsed()
    ring = Ring(workers * (_RESULTS_AHEAD + 1), loader.nbytes)
    try:
        sender = _Sender(loader, positions, ring, workers, board)
        dataset = grain.MapDataset.range(len(positions)).map(_Guarded(sender))
        # One thread in each worker: a second one would only compete for the interpreter.
        options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        processes = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=_RESULTS_AHEAD)
        iterator = iter(dataset.to_iter_dataset(options).mp_prefetch(processes, _start_worker))
        try:
            for value in iterator:
                yield ring.take(_result(value))
        except RuntimeError:
            processes_begun = [board.read(worker).process for worker in range(workers)]
            if None in processes_begun:
                raise failed_to_start() from None
            living = {child.pid for child in multiprocessing.active_children()}
            if living.issuperset(processes_begun):
                raise  # raised by the loader itself
            raise UserError(
                "data.workers: a worker process was killed, most often because memory ran out; lower "
                "data.workers, and start again"
            ) from None
        finally:
            ring.close()
            iterator.close()
    finally:
        ring.free()


@dataclasses.dataclass(frozen=True)
class _Sender:
    """Function of a worker process that makes the n-th result in the memory of the ring."""

    loader: Loader
    positions: range
    ring: Ring
    workers: int
    board: StatusBoard

    def __call__(self, number: int) -> Parcel:
        worker, position = number % self.workers, self.positions[number]  # Grain's workers take turns
        note = functools.partial(self.board.note, worker, position)
        self.board.begin(worker, os.getpid())
        parcel = self.ring.put(number, lambda empty: self.loader(position, empty, note))
        self.board.rest(worker)
        return parcel


@dataclasses.dataclass(frozen=True)
class _Guarded:
    """Returns a `UserError` as a value, because Grain would wrap it in a worker's traceback."""

    make: Callable[[int], Any]

    def __call__(self, position: int) -> Any:
        try:
            return self.make(position)
        except UserError as error:
            return error


def _result(value: Any) -> Any:
    if isinstance(value, UserError):
        raise value
    return value


def _start_worker(*_: int) -> None:
    live_with_parent()
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Makes glibc reuse freed memory instead of returning it to the kernel.

    glibc keeps about as much as the largest block freed so far, so this frees a large one. Otherwise each
    sequence of half a megabyte would be returned and requested anew; the kernel then zeroes every page, which
    takes half the time of the feed.
    """
    np.empty(_LARGE_BLOCK, np.uint8)
