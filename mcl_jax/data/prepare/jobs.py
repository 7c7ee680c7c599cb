"""Runs jobs in several processes; each job writes one file, and a log lets a later run continue.

Written by hand, because workflow tools (Snakemake, doit, Luigi) need a program and a database of their own.
"""

import dataclasses
import json
import multiprocessing
import queue
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Generic, TypeVar

import cv2

from mcl_jax.data.prepare.issues import Issue
from mcl_jax.data.stores.job_log import JOB_LOG, is_unfinished, parse_line
from mcl_jax.data.stores.manifest import StoredSequence
from mcl_jax.errors import DataError
from mcl_jax.utils.files import clear_leftovers, write_atomically
from mcl_jax.utils.progress_bar import ProgressBar
from mcl_jax.utils.workers import live_with_parent

W = TypeVar("W")

_FORMAT = 1

# With more jobs than this, a job is too short to be sent to a process by itself.
_MANY_JOBS = 1000


@dataclasses.dataclass(frozen=True)
class Job(Generic[W]):
    """Work that makes one output file.

    Attributes:
        name: path of the file inside the output folder.
        work: input of the task; picklable.
        stamp: changes when the source of the file changes.
        sequences: number of sequences in the job.
    """

    name: str
    work: W
    stamp: str
    sequences: int


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Result of a job.

    Attributes:
        name: name of the job.
        stamp: stamp of the job.
        size: bytes of the file; 0 if there was nothing to write.
        sequences: sequences in the file.
        issues: frames and sequences that were left out.
        checksums: CRC-32 of each record of a shard; empty for other files.
    """

    name: str
    stamp: str
    size: int
    sequences: tuple[StoredSequence, ...]
    issues: tuple[Issue, ...] = ()
    checksums: tuple[int, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the job is done; a job with damaged source files has to run again."""
        return self.size > 0 or not any(issue.damaged for issue in self.issues)


@dataclasses.dataclass(frozen=True)
class Finished:
    """Results of all jobs.

    Attributes:
        outcomes: in the order of the jobs. They and the files do not depend on the number of workers.
        new: number of sequences in the jobs that this run did.
    """

    outcomes: list[Outcome]
    new: int


def run_jobs(
    task: Callable[[Job[W]], Outcome],
    jobs: Sequence[Job[W]],
    folder: Path,
    origin: dict[str, Any],
    *,
    workers: int,
    progress: bool,
) -> Finished:
    """Does the jobs that earlier runs have not done, or whose source or file has changed since.

    Args:
        task: does a job and writes its file; picklable.
        jobs: all jobs, in order.
        folder: folder for the files and the log.
        origin: source of the folder's files; a folder with another origin is refused.
        workers: number of processes; 0 works in this process.
        progress: show a progress bar on stderr.

    Raises:
        DataError: if the folder has other content or cannot be written, or a worker was killed.
    """
    if workers < 0:
        raise DataError(f"--workers: {workers}; give 0 or more")
    known = read_log(folder, origin)
    names = {job.name for job in jobs}
    for name in sorted(known.keys() - names):
        path = folder / name
        if path.exists():
            raise DataError(
                f"{path}: its source is missing; restore it, delete {str(path.parent)!r}, or give another "
                "--out folder"
            )
    done = {job.name: known[job.name] for job in jobs if _is_done(job, known.get(job.name), folder)}
    pending = [job for job in jobs if job.name not in done]
    if pending:
        for job in pending if known else ():
            clear_leftovers(folder / job.name)
        _write_log(folder, origin, done.values(), complete=False)
    total = sum(job.sequences for job in jobs)
    finished = sum(job.sequences for job in jobs if job.name in done)
    with ProgressBar(folder.name, "seq", total, finished, show=progress and bool(pending)) as waiting:
        for job, outcome in zip(pending, _run(task, pending, workers), strict=True):
            done[job.name] = outcome
            if outcome.complete:
                _append(folder, outcome)
            waiting.update(job.sequences)
    outcomes = [done[job.name] for job in jobs]
    if pending or is_unfinished(folder):
        kept = [outcome for outcome in outcomes if outcome.complete]
        _write_log(folder, origin, kept, complete=len(kept) == len(outcomes))
    return Finished(outcomes, total - finished)


def _is_done(job: Job[Any], outcome: Outcome | None, folder: Path) -> bool:
    if outcome is None or outcome.stamp != job.stamp:
        return False
    try:
        return (folder / job.name).stat().st_size == outcome.size
    except OSError:
        return outcome.size == 0


def _run(task: Callable[[Job[W]], Outcome], jobs: Sequence[Job[W]], workers: int) -> Iterator[Outcome]:
    if workers == 0 or len(jobs) <= 1:
        yield from map(task, jobs)
        return
    context = multiprocessing.get_context("spawn")  # inherits no state from this process
    size = 8 if len(jobs) > _MANY_JOBS else 1
    chunks = [jobs[start : start + size] for start in range(0, len(jobs), size)]
    # A pool for each process: one of several (Python 3.11) can miss a death while it starts another process.
    pools = [ProcessPoolExecutor(1, context, _start_worker) for _ in range(min(workers, len(chunks)))]
    free: queue.SimpleQueue[ProcessPoolExecutor] = queue.SimpleQueue()
    for pool in pools:
        free.put(pool)

    def run_chunk(chunk: Sequence[Job[W]]) -> list[Outcome]:
        pool = free.get()
        try:
            return list(pool.map(task, chunk, chunksize=size))
        finally:
            free.put(pool)

    threads = ThreadPoolExecutor(len(pools))
    try:
        for outcomes in threads.map(run_chunk, chunks):
            yield from outcomes
    except BrokenProcessPool:
        raise DataError(
            "a worker process was killed, perhaps because memory ran out; "
            "run the same command again with fewer --workers to continue"
        ) from None
    finally:
        threads.shutdown(cancel_futures=True)
        for pool in pools:
            pool.shutdown()


def _start_worker() -> None:
    live_with_parent()
    cv2.setNumThreads(0)  # worker processes run in parallel already


def read_log(folder: Path, origin: dict[str, Any]) -> dict[str, Outcome]:
    """Returns the results of earlier runs in a folder by job name, in order; {} if the folder is new.

    Raises:
        DataError: if the folder has other content, or was made from another source.
    """
    path = folder / JOB_LOG
    if folder.exists() and not folder.is_dir():
        raise DataError(f"--out: {str(folder)!r} is not a folder; give another path")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        if folder.exists() and any(folder.iterdir()):
            raise DataError(
                f"--out: {str(folder)!r} is not empty and has no {JOB_LOG}; give a new folder"
            ) from None
        return {}
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{path}: cannot be read; check the disk, or give a new --out folder") from None
    header = parse_line(lines[0]) if lines else None
    if header is None or {k: v for k, v in header.items() if k != "complete"} != _header(origin):
        raise DataError(
            f"--out: {str(folder)!r} was prepared from another source, with other options or by another "
            "version; give a new folder, or delete this one"
        )
    outcomes: dict[str, Outcome] = {}
    for line in lines[1:]:
        outcome = _parse_outcome(line)
        if outcome is not None:  # the last line may be incomplete if the run was killed
            outcomes[outcome.name] = outcome
    return outcomes


def _parse_outcome(line: str) -> Outcome | None:
    entry: Any = parse_line(line)
    try:  # if the entry is not a dictionary, this raises a TypeError
        name, stamp, size = entry["name"], entry["stamp"], entry["size"]
        sequences = tuple(StoredSequence(*sequence) for sequence in entry["sequences"])
        issues = tuple(Issue(*issue) for issue in entry["issues"])
        checksums = tuple(entry.get("checksums", ()))
    except (KeyError, TypeError):
        return None
    sound = isinstance(name, str) and type(size) is int and all(type(s.frames) is int for s in sequences)
    sound = sound and len(checksums) in (0, len(sequences)) and all(type(c) is int for c in checksums)
    return Outcome(name, stamp, size, sequences, issues, checksums) if sound else None


def _write_log(folder: Path, origin: dict[str, Any], outcomes: Iterable[Outcome], *, complete: bool) -> None:
    header = _line({**_header(origin), "complete": complete})
    write_atomically(folder / JOB_LOG, header + b"".join(map(_outcome_line, outcomes)))


def _append(folder: Path, outcome: Outcome) -> None:
    try:
        with (folder / JOB_LOG).open("ab") as file:
            file.write(_outcome_line(outcome))
    except OSError as error:
        raise DataError(f"{folder / JOB_LOG}: cannot be written: {error.strerror}") from None


def _header(origin: dict[str, Any]) -> dict[str, Any]:
    return {"format": _FORMAT, **origin}


def _outcome_line(outcome: Outcome) -> bytes:
    issues = [dataclasses.astuple(issue) for issue in outcome.issues]
    content = {**vars(outcome), "issues": issues}
    if not outcome.checksums:
        del content["checksums"]
    return _line(content)


def _line(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, separators=(",", ":")) + "\n").encode()
