"""A map over several processes that ends when one of them is killed.

By hand: in `concurrent.futures` of Python 3.11 a worker killed while another is being started leaves the pool
waiting for ever, and `multiprocessing.Pool` waits for ever whenever it was killed. Here nothing is shared:
each worker has a pipe of its own.
"""

import contextlib
import multiprocessing
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from mcl_jax.data.workers import live_with_parent

A = TypeVar("A")
B = TypeVar("B")


class WorkerKilledError(Exception):
    """A worker ended before its work did."""


def map_in_processes(
    function: Callable[[A], B],
    arguments: Sequence[A],
    *,
    workers: int,
    chunk: int,
    initialize: Callable[[], None],
) -> Iterator[B]:
    """Yields function(argument) for each argument, in their order.

    Args:
        function: picklable, as its arguments and results are.
        arguments: what to map.
        workers: processes, at least 1; new ones, which inherit nothing that could be in an odd state.
        chunk: how many arguments a worker is given at a time.
        initialize: called once in each process; picklable.

    Raises:
        WorkerKilledError: if a process ends too early.
        Exception: whatever the function raises, with the worker's traceback as a note.
    """
    chunks = [arguments[i : i + chunk] for i in range(0, len(arguments), chunk)]
    context = multiprocessing.get_context("spawn")
    processes: list[BaseProcess] = []
    pipes: list[Connection] = []
    try:
        for _ in range(min(workers, len(chunks))):
            ours, theirs = context.Pipe()
            process: BaseProcess = context.Process(
                target=_work, args=(theirs, function, initialize), daemon=True
            )
            process.start()
            theirs.close()  # so that the pipe ends when the process does
            processes.append(process)
            pipes.append(ours)
        yield from _in_order(pipes, chunks)
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.join()
        for pipe in pipes:
            pipe.close()


def _in_order(pipes: Sequence[Connection], chunks: Sequence[Sequence[Any]]) -> Iterator[Any]:
    """Hands out the chunks one by one and yields the results in order.

    Raises:
        WorkerKilledError: if a process has ended.
    """
    waiting = iter(enumerate(chunks))
    at_work: dict[Connection, int] = {}

    def hand_out(pipe: Connection) -> None:
        if (item := next(waiting, None)) is not None:
            at_work[pipe], arguments = item
            with _killed_if_closed():
                pipe.send(arguments)

    for pipe in pipes:
        hand_out(pipe)
    finished: dict[int, list[Any]] = {}
    for i in range(len(chunks)):
        while i not in finished:
            ready = set(wait(list(at_work)))
            for pipe in [pipe for pipe in at_work if pipe in ready]:
                with _killed_if_closed():
                    results = pipe.recv()
                if isinstance(results, Exception):
                    raise results
                finished[at_work.pop(pipe)] = results
                hand_out(pipe)
        yield from finished.pop(i)


@contextlib.contextmanager
def _killed_if_closed() -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError):
        raise WorkerKilledError from None


def _work(pipe: Connection, function: Callable[[Any], Any], initialize: Callable[[], None]) -> None:
    live_with_parent()
    initialize()
    while True:
        arguments = pipe.recv()
        try:
            results: Any = [function(argument) for argument in arguments]
        except Exception as error:
            error.add_note(traceback.format_exc())
            results = error
        pipe.send(results)
