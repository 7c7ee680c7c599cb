"""Prepares a dataset as a tree of pickled arrays, OUT/subject/condition/view/view.pkl."""

import dataclasses
import pickle
from pathlib import Path

from absl import logging

from mcl_jax.data.prepare.issues import SKIPPED, issues_csv
from mcl_jax.data.prepare.jobs import Job, Outcome, run_jobs
from mcl_jax.data.prepare.layouts import Download, list_sequences
from mcl_jax.data.prepare.oddities import oddities
from mcl_jax.data.prepare.prepare_options import Options
from mcl_jax.data.prepare.sequence_reader import Reader, job_for
from mcl_jax.data.prepare.summary import Summary, check_damage, check_usable, summarize
from mcl_jax.data.sequences import SequenceRef
from mcl_jax.data.stores.manifest import StoredSequence
from mcl_jax.errors import DataError
from mcl_jax.utils.files import write_atomically


def prepare_tree(download: Download, src: Path, out: Path, options: Options) -> Summary:
    """Writes a download as a pkl tree; the arguments are those of `preparation.prepare_dataset`.

    Raises:
        DataError: if the source or the output folder cannot be used, or files of the source are damaged.
    """
    sequences, prepared = list_sequences(download.layout, src, download.file)
    if prepared:
        raise DataError(
            f"--src: {str(src)!r} is a pkl tree already; train on it, or convert it with --format records"
        )
    jobs = [job_for(f"{sequence.key}/{sequence.view}.pkl", [sequence]) for sequence in sequences]
    task = _WritePkl(
        Reader(download.layout, prepared, options.skip_damaged, download.file, download.pixels), out
    )
    for line in oddities(download.layout, sequences):
        logging.warning("%s: %s", src, line)
    origin = {"dataset": download.name, "kind": "pkl", **download.layout.cleaning.settings}
    done = run_jobs(task, jobs, out, origin, workers=options.workers, progress=options.progress)
    write_atomically(out / SKIPPED, issues_csv(issue for o in done.outcomes for issue in o.issues))
    check_damage(done.outcomes, out / SKIPPED)
    check_usable(done.outcomes, src, out / SKIPPED)
    return summarize(done.outcomes)


@dataclasses.dataclass(frozen=True)
class _WritePkl:
    """Writes a sequence as a pickled array, like the reference."""

    reader: Reader
    out: Path

    def __call__(self, job: Job[tuple[SequenceRef, ...]]) -> Outcome:
        (sequence,) = job.work
        frames, issues = self.reader.read(sequence)
        path = self.out / job.name
        if frames is None:
            path.unlink(missing_ok=True)
            return Outcome(job.name, job.stamp, 0, (), tuple(issues))
        content = pickle.dumps(frames, protocol=4)
        write_atomically(path, content, sync=False)
        stored = StoredSequence(sequence.subject, sequence.condition, sequence.view, len(frames))
        return Outcome(job.name, job.stamp, len(content), (stored,), tuple(issues))
