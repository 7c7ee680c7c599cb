"""Results of a loader ahead of their use: made by worker processes, or by a thread."""

import contextlib
import queue
import threading
from collections.abc import Generator, Iterator
from typing import Any

from mcl_jax.data.feed.ring import Ring
from mcl_jax.data.feed.team import Loader, Team, keep_freed_memory, late
from mcl_jax.errors import UserError

TIMEOUT_SECONDS = 300.0

_RESULTS_AHEAD = 2  # of each worker, besides the one it makes
_LAST_RESULT_SECONDS = 5.0


@contextlib.contextmanager
def prefetched(
    loader: Loader, positions: range, workers: int, timeout: float = TIMEOUT_SECONDS
) -> Iterator[Iterator[Any]]:
    """Runs loader(position) ahead of its use, in `workers` processes or, with 0, in a thread.

    Args:
        loader: makes the results.
        positions: which, in order.
        workers: how many processes.
        timeout: the seconds that a result is waited for, 0 for ever. A worker process is replaced then, once
            for each result, before that is an error.

    Yields:
        An iterator over the results, in order. It ends with its first error.

    Raises:
        UserError: what the loader raised, in a worker or not; or if shared memory is too small, or a result
            does not come.
    """
    keep_freed_memory()
    results = (
        _from_workers(loader, positions, workers, timeout)
        if workers
        else _from_thread(loader, positions, timeout)
    )
    with contextlib.closing(results):
        yield results


def _from_thread(loader: Loader, positions: range, timeout: float) -> Generator[Any, None, None]:
    results: queue.Queue[Any] = queue.Queue(_RESULTS_AHEAD)
    unwanted = threading.Event()

    def work() -> None:
        for position in positions:
            try:
                result = loader(position)
            except Exception as error:
                result = error
            if not unwanted.is_set():
                results.put(result)
            if unwanted.is_set() or isinstance(result, Exception):
                return

    thread = threading.Thread(target=work, name="loader", daemon=True)
    thread.start()
    try:
        for position in positions:
            try:
                result = results.get(timeout=timeout or None)
            except queue.Empty:
                raise UserError(
                    f"{late(loader, position, timeout)} from the thread of data.workers=0; see whether their "
                    "disk answers, or set a longer data.timeout"
                ) from None
            if isinstance(result, Exception):
                raise result
            yield result
    finally:
        unwanted.set()
        with contextlib.suppress(queue.Empty):
            while True:
                results.get_nowait()
        thread.join(_LAST_RESULT_SECONDS)  # one that waits for a disk ends with the process


def _from_workers(
    loader: Loader, positions: range, workers: int, timeout: float
) -> Generator[Any, None, None]:
    ring = Ring(workers * (_RESULTS_AHEAD + 1), loader.nbytes)
    try:
        team = Team(loader, positions, ring, workers, timeout)
        try:
            for number in range(len(positions)):
                yield team.take(number)
        finally:
            team.end()
    finally:
        ring.free()
