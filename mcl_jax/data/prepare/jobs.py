"""Restartable work: jobs over several processes, each of which writes one file, and a manifest of them."""

import concurrent.futures
import dataclasses
import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import cv2
from tqdm import tqdm

from mcl_jax.data.prepare.sequences import Issue
from mcl_jax.data.records import Record
from mcl_jax.data.workers import live_with_parent
from mcl_jax.errors import DataError
from mcl_jax.files import write_atomically

MANIFEST = "prepared.jsonl"
"""Says what the folder is made from, whether it is complete, and then, line by line, what is in each file."""

_FORMAT = 1

# From so many on, a job is too short to be handed to a process by itself.
_MANY_JOBS = 1000


@dataclasses.dataclass(frozen=True)
class Job:
    """What one output file is made of.

    Attributes:
        name: path of the file inside the output folder.
        records: the sequences that go into it.
        stamp: changes when one of them does.
    """

    name: str
    records: tuple[Record, ...]
    stamp: str


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        name: the job's.
        stamp: the job's.
        size: bytes of the file; 0 if nothing was left to write.
        sequences: subject, condition, view and number of frames of each sequence in it.
        issues: what was left out.
    """

    name: str
    stamp: str
    size: int
    sequences: tuple[tuple[str, str, str, int], ...]
    issues: tuple[Issue, ...]

    @property
    def complete(self) -> bool:
        """Whether the job need not be done again."""
        return self.size > 0 or not any(issue.damaged for issue in self.issues)


def make_job(name: str, records: Sequence[Record]) -> Job:
    """Returns the job that writes these records, stamped with their present state on disk.

    Raises:
        DataError: if one has gone meanwhile.
    """
    digest = hashlib.sha256()
    for record in records:
        try:
            status = Path(record.location).stat()
        except OSError as error:
            raise DataError(
                f"{record.location}: {error.strerror}; has the source changed meanwhile?"
            ) from None
        # A folder's time changes with the names in it; its size is the file system's affair.
        digest.update(f"{record.key}\0{status.st_mtime_ns}\n".encode())
    return Job(name, tuple(records), digest.hexdigest()[:16])


def run_jobs(
    task: Callable[[Job], Outcome],
    jobs: Sequence[Job],
    folder: Path,
    origin: dict[str, Any],
    *,
    workers: int,
    progress: bool,
) -> list[Outcome]:
    """Does the jobs that an earlier run has not done, or whose file was cut off since.

    Args:
        task: does a job, its file included; picklable.
        jobs: what to do, in order.
        folder: where the files and the manifest go.
        origin: what the folder is made from; a folder made from something else is refused.
        workers: processes; 0 works in this one.
        progress: show a progress bar on stderr.

    Returns:
        The outcomes, in the order of the jobs. They, and all files, do not depend on `workers`.

    Raises:
        DataError: if the folder holds something else, or cannot be written.
    """
    known = read_manifest(folder, origin)
    names = {job.name for job in jobs}
    for name in sorted(known.keys() - names):
        path = folder / name
        if path.exists():
            raise DataError(
                f"{path}: its source is gone; bring it back, delete {str(path.parent)!r}, or give another "
                "--out folder"
            )
    done = {job.name: known[job.name] for job in jobs if _is_done(job, known.get(job.name), folder)}
    pending = [job for job in jobs if job.name not in done]
    if pending:
        _write_manifest(folder, origin, done.values(), complete=False)
    total = sum(len(job.records) for job in jobs)
    finished = sum(len(job.records) for job in jobs if job.name in done)
    with tqdm(total=total, initial=finished, unit="seq", disable=not progress or not pending) as bar:
        for job, outcome in zip(pending, _run(task, pending, workers), strict=True):
            done[job.name] = outcome
            if outcome.complete:
                _append(folder, outcome)
            bar.update(len(job.records))
    outcomes = [done[job.name] for job in jobs]
    if pending or is_unfinished(folder):
        kept = [outcome for outcome in outcomes if outcome.complete]
        _write_manifest(folder, origin, kept, complete=len(kept) == len(outcomes))
    return outcomes


def is_unfinished(folder: Path) -> bool:
    """Whether a preparation of this folder was begun and is not complete."""
    try:
        with (folder / MANIFEST).open(encoding="utf-8") as file:
            header = _parse(file.readline())
    except (OSError, UnicodeDecodeError):
        return False
    return header is not None and not header.get("complete")


def _is_done(job: Job, outcome: Outcome | None, folder: Path) -> bool:
    if outcome is None or outcome.stamp != job.stamp:
        return False
    try:
        return (folder / job.name).stat().st_size == outcome.size
    except OSError:
        return outcome.size == 0


def _run(task: Callable[[Job], Outcome], jobs: Sequence[Job], workers: int) -> Iterator[Outcome]:
    if workers == 0 or len(jobs) <= 1:
        yield from map(task, jobs)
        return
    # Fresh processes inherit nothing that could be in an odd state.
    pool = concurrent.futures.ProcessPoolExecutor(
        min(workers, len(jobs)), multiprocessing.get_context("spawn"), _start_worker
    )
    try:
        yield from pool.map(task, jobs, chunksize=8 if len(jobs) > _MANY_JOBS else 1)
    except BrokenProcessPool:
        raise DataError(
            "a worker process was killed, perhaps for lack of memory; "
            "run the same command again to go on, with fewer --workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    live_with_parent()
    cv2.setNumThreads(0)  # the processes are the parallelism


def read_manifest(folder: Path, origin: dict[str, Any]) -> dict[str, Outcome]:
    """Returns what an earlier run has done in a folder, by the jobs' names in their order; {} if it is new.

    Raises:
        DataError: if the folder holds something else, or was made from something else.
    """
    path = folder / MANIFEST
    if folder.exists() and not folder.is_dir():
        raise DataError(f"--out: {str(folder)!r} is no folder; give another")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        if folder.exists() and any(folder.iterdir()):
            raise DataError(
                f"--out: {str(folder)!r} is not empty and has no {MANIFEST}; give a new folder"
            ) from None
        return {}
    except (OSError, UnicodeDecodeError):
        raise DataError(f"{path}: cannot be read; delete the folder, or give a new one") from None
    header = _parse(lines[0]) if lines else None
    if header is None or {k: v for k, v in header.items() if k != "complete"} != _header(origin):
        raise DataError(
            f"--out: {str(folder)!r} was prepared from something else, or by another version; "
            "give a new folder, or delete this one"
        )
    outcomes: dict[str, Outcome] = {}
    for line in lines[1:]:
        entry = _parse(line)
        if entry is not None:  # the last line of a killed run may be cut off
            entry["sequences"] = tuple(tuple(s) for s in entry["sequences"])
            entry["issues"] = tuple(Issue(*issue) for issue in entry["issues"])
            outcomes[entry["name"]] = Outcome(**entry)
    return outcomes


def _write_manifest(
    folder: Path, origin: dict[str, Any], outcomes: Iterable[Outcome], *, complete: bool
) -> None:
    header = _line({**_header(origin), "complete": complete})
    write_atomically(folder / MANIFEST, header + b"".join(map(_outcome_line, outcomes)))


def _append(folder: Path, outcome: Outcome) -> None:
    try:
        with (folder / MANIFEST).open("ab") as file:
            file.write(_outcome_line(outcome))
    except OSError as error:
        raise DataError(f"{folder / MANIFEST}: cannot be written: {error.strerror}") from None


def _header(origin: dict[str, Any]) -> dict[str, Any]:
    return {"format": _FORMAT, **origin}


def _outcome_line(outcome: Outcome) -> bytes:
    issues = [dataclasses.astuple(issue) for issue in outcome.issues]
    return _line({**vars(outcome), "issues": issues})


def _line(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, separators=(",", ":")) + "\n").encode()


def _parse(line: str) -> dict[str, Any] | None:
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None
