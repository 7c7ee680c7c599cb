"""A whole dataset, from the download to a pkl tree or to records."""

import dataclasses
import pickle
from collections.abc import Sequence
from pathlib import Path

from mcl_jax.data.prepare.jobs import Job, Outcome, make_job, run_jobs
from mcl_jax.data.prepare.layouts import list_sequences
from mcl_jax.data.prepare.sequences import Reader, issues_csv
from mcl_jax.errors import DataError
from mcl_jax.files import write_atomically

FORMATS = ("pkl", "records")

SKIPPED = "skipped.csv"


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a preparation came to: what was written, and what was left out."""

    sequences: int
    frames: int
    skipped_sequences: int
    skipped_frames: int


def prepare(
    dataset: str,
    src: Path,
    out: Path,
    *,
    file_format: str = "pkl",
    workers: int = 0,
    skip_damaged: bool = False,
    progress: bool = False,
) -> Summary:
    """Prepares a download, or goes on where an earlier run was stopped.

    What is complete is kept; what was cut off, or whose raw frames came, went or were renamed, is made again.
    What was left out, and why, is in `skipped.csv` of the output folder.

    Args:
        dataset: a key of `LAYOUTS`.
        src: the download, or a pkl tree that was prepared before, to make records of.
        out: folder for the result; new, or begun by the same command.
        file_format: "pkl" for a tree of OUT/subject/condition/view/view.pkl, "records" for ArrayRecord files.
        workers: processes; 0 works in this one. The result does not depend on it.
        skip_damaged: do without files that cannot be read; otherwise they fail the run, after all the rest.
        progress: show a progress bar on stderr.

    Raises:
        DataError: if the source or the output folder cannot be used, or files of the source are damaged.
    """
    if file_format not in FORMATS:
        raise DataError(f"no format {file_format!r}; there are {', '.join(FORMATS)}")
    if workers < 0:
        raise DataError(f"--workers: {workers}; give 0 or more")
    if out.resolve().is_relative_to(src.resolve()):
        raise DataError(f"--out: {str(out)!r} is inside --src; give a folder outside of it")
    if file_format == "records":
        from mcl_jax.data.builders import prepare_records  # TFDS takes a while to import

        return prepare_records(
            dataset, src, out, workers=workers, skip_damaged=skip_damaged, progress=progress
        )
    return _prepare_tree(dataset, src, out, workers=workers, skip_damaged=skip_damaged, progress=progress)


def _prepare_tree(
    dataset: str, src: Path, out: Path, *, workers: int, skip_damaged: bool, progress: bool
) -> Summary:
    records, prepared = list_sequences(dataset, src)
    if prepared:
        raise DataError(
            f"--src: {str(src)!r} is a pkl tree already; train from it, or convert it with --format records"
        )
    jobs = [make_job(f"{r.key}/{r.view}.pkl", [r]) for r in records]
    task = _WritePkl(Reader(dataset, prepared, skip_damaged), out)
    origin = {"dataset": dataset, "kind": "pkl"}
    outcomes = run_jobs(task, jobs, out, origin, workers=workers, progress=progress)
    write_atomically(out / SKIPPED, issues_csv(issue for o in outcomes for issue in o.issues))
    check_damage(outcomes, out / SKIPPED)
    check_usable(outcomes, src, out / SKIPPED)
    return summarize(outcomes)


@dataclasses.dataclass(frozen=True)
class _WritePkl:
    """Writes a sequence as a pickled array, as the reference does."""

    reader: Reader
    out: Path

    def __call__(self, job: Job) -> Outcome:
        (record,) = job.records
        frames, issues = self.reader.read(record)
        path = self.out / job.name
        if frames is None:
            path.unlink(missing_ok=True)
            return Outcome(job.name, job.stamp, 0, (), tuple(issues))
        content = pickle.dumps(frames, protocol=4)
        write_atomically(path, content, sync=False)
        sequence = (record.subject, record.condition, record.view, len(frames))
        return Outcome(job.name, job.stamp, len(content), (sequence,), tuple(issues))


def summarize(outcomes: Sequence[Outcome]) -> Summary:
    """Counts what is in the outcomes."""
    frames = [sequence[3] for outcome in outcomes for sequence in outcome.sequences]
    left_out = [issue.frame == "" for outcome in outcomes for issue in outcome.issues]
    return Summary(len(frames), sum(frames), sum(left_out), len(left_out) - sum(left_out))


def check_usable(outcomes: Sequence[Outcome], src: Path, table: Path) -> None:
    """Fails if nothing came of a whole download, which then is not what it was taken for.

    Raises:
        DataError: naming the table of reasons.
    """
    if not any(outcome.sequences for outcome in outcomes):
        raise DataError(
            f"--src: not one usable frame under {str(src)!r}; {table} says why; is it the folder of subjects?"
        )


def check_damage(outcomes: Sequence[Outcome], table: Path) -> None:
    """Fails if a job could not be done for damaged files.

    Raises:
        DataError: the first of them; the table has all.
    """
    damaged = [i for o in outcomes if not o.complete for i in o.issues if i.damaged]
    if damaged:
        others = f" (and {len(damaged) - 1} more damaged files, see {table})" if len(damaged) > 1 else ""
        raise DataError(
            f"{damaged[0].reason}{others}; then run this again, or add --skip-damaged to go without"
        )
