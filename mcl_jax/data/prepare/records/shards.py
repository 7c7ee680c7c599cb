"""Assigns sequences to ArrayRecord shards, and writes the shards in parallel."""

import dataclasses
import functools
import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from array_record.python import array_record_module

from mcl_jax.data.prepare.issues import Issue
from mcl_jax.data.prepare.jobs import Job, Outcome, run_jobs
from mcl_jax.data.prepare.layouts import Download, list_sequences
from mcl_jax.data.prepare.oddities import oddities
from mcl_jax.data.prepare.prepare_options import Options
from mcl_jax.data.prepare.sequence_reader import Reader, job_for
from mcl_jax.data.sequences import SequenceRef
from mcl_jax.data.stores.job_log import is_unfinished
from mcl_jax.data.stores.manifest import RECORDS_FORMAT, StoredSequence
from mcl_jax.data.stores.tfds_feature import Silhouettes
from mcl_jax.errors import DataError

SEQUENCES_PER_SHARD = 512

# One record per group, so that a sequence is read without its neighbours. No zstd, because silhouettes are
# packed already: it would halve the files again, but unpacking takes four times as long as all other reading.
_WRITER_OPTIONS = "group_size:1,uncompressed"


@dataclasses.dataclass(frozen=True)
class Plan:
    """Plan of the shards to be written.

    Attributes:
        download: the source dataset.
        prepared: whether the source is a pkl tree.
        jobs: one job for each shard.
        stamp: changes when the source or the options change.
    """

    download: Download
    prepared: bool
    jobs: tuple[Job[tuple[SequenceRef, ...]], ...]
    stamp: str

    @property
    def origin(self) -> dict[str, Any]:
        """Identifies the source of shards; shards of another source are not kept."""
        return {
            "dataset": self.download.name,
            "kind": "records",
            "records": RECORDS_FORMAT,
            "checksums": True,
            "prepared": self.prepared,
            **self.download.settings,
        }


def features() -> tfds.features.FeaturesDict:
    """Returns the features of a sequence; the width of its frames is 64 or 44."""
    return tfds.features.FeaturesDict(
        {
            "silhouettes": Silhouettes(),
            "subject": tfds.features.Text(),
            "condition": tfds.features.Text(),
            "view": tfds.features.Text(),
        }
    )


def plan(download: Download, src: Path) -> Plan:
    """Assigns the sequences of a download to shards, in order.

    Raises:
        DataError: if the folder holds no such dataset.
    """
    sequences, prepared = list_sequences(download.layout, src, download.file)
    if prepared and is_unfinished(src):
        raise DataError(f"--src: the preparation of {str(src)!r} is not complete; finish it first")
    starts = range(0, len(sequences), SEQUENCES_PER_SHARD)
    jobs = tuple(
        job_for(f"{number:05d}.array_record", sequences[start : start + SEQUENCES_PER_SHARD])
        for number, start in enumerate(starts)
    )
    for line in [] if prepared else oddities(download.layout, sequences):
        logging.warning("%s: %s", src, line)
    settings = download.settings
    stamps = [job.stamp for job in jobs] + ([json.dumps(settings, sort_keys=True)] if settings else [])
    stamp = hashlib.sha256("\n".join(stamps).encode()).hexdigest()[:16]
    return Plan(download, prepared, jobs, stamp)


def write(plan: Plan, folder: Path, options: Options) -> list[Outcome]:
    """Writes the shards that earlier runs have not completed.

    Raises:
        DataError: if the folder cannot be used. Damaged source files are in the outcomes instead.
    """
    names = {job.name for job in plan.jobs}
    for surplus in folder.glob("*.array_record"):  # shards of sequences that the user has deleted since
        if surplus.name not in names:
            surplus.unlink()
    task = _WriteShard(
        Reader(
            plan.download.layout,
            plan.prepared,
            options.skip_damaged,
            plan.download.file,
            plan.download.pixels,
        ),
        folder,
    )
    done = run_jobs(task, plan.jobs, folder, plan.origin, workers=options.workers, progress=options.progress)
    return done.outcomes


@dataclasses.dataclass(frozen=True)
class _WriteShard:
    """Writes a shard, unless one of its sequences is damaged or all are empty."""

    reader: Reader
    folder: Path

    def __call__(self, job: Job[tuple[SequenceRef, ...]]) -> Outcome:
        path = self.folder / job.name
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            sequences, issues, checksums = self._write(job, temporary)
            if sequences and not any(issue.damaged for issue in issues):
                temporary.replace(path)
                size = path.stat().st_size
                return Outcome(job.name, job.stamp, size, tuple(sequences), tuple(issues), tuple(checksums))
            temporary.unlink()
            path.unlink(missing_ok=True)
        except (OSError, RuntimeError) as error:  # ArrayRecord raises RuntimeError
            reason = error.strerror if isinstance(error, OSError) else str(error).split(";")[0]
            raise DataError(f"{path}: cannot be written: {reason}") from None
        return Outcome(job.name, job.stamp, 0, (), tuple(issues))

    def _write(
        self, job: Job[tuple[SequenceRef, ...]], path: Path
    ) -> tuple[list[StoredSequence], list[Issue], list[int]]:
        stored, issues, checksums = [], [], []
        writer = array_record_module.ArrayRecordWriter(str(path), _WRITER_OPTIONS)
        for sequence in job.work:
            frames, found = self.reader.read(sequence)
            issues += found
            if frames is not None:
                names = sequence.subject, sequence.condition, sequence.view
                record = _serialize(frames, *names)
                writer.write(record)
                checksums.append(zlib.crc32(record))
                stored.append(StoredSequence(*names, len(frames)))
        writer.close()
        return stored, issues, checksums


def _serialize(frames: np.ndarray, subject: str, condition: str, view: str) -> bytes:
    layout, serializer = _serializer()
    example = {"silhouettes": frames, "subject": subject, "condition": condition, "view": view}
    message = serializer.get_tf_example(layout.encode_example(example))
    return message.SerializeToString(deterministic=True)  # otherwise the order of fields is random


@functools.cache
def _serializer() -> tuple[tfds.features.FeaturesDict, tfds.core.ExampleSerializer]:
    layout = features()
    return layout, tfds.core.ExampleSerializer(layout.get_serialized_info())
