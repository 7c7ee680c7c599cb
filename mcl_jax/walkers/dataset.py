"""Writes a population of walkers as a pkl tree and a partition JSON, like a real dataset."""

import dataclasses
import hashlib
import json
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcl_jax.data.prepare.jobs import Job, Outcome, run_jobs
from mcl_jax.data.stores.job_log import JOB_LOG, read_header
from mcl_jax.data.stores.manifest import StoredSequence
from mcl_jax.errors import DataError
from mcl_jax.utils.files import write_atomically
from mcl_jax.walkers.gait import FRAMES_PER_SECOND
from mcl_jax.walkers.sequence import render_sequence
from mcl_jax.walkers.style import CONDITIONS, VIEWS, WalkerStyle, generator

GENERATOR = 1  # raise it when the same parameters give other pixels

_OLD_MANIFEST = "walkers.json"
"""File that earlier versions wrote instead of the log."""

Walk = tuple[int, str, str]  # subject, condition, view


@dataclasses.dataclass(frozen=True)
class Population:
    """All parameters that decide the bytes of a tree; the log of the tree records them.

    Raises:
        DataError: a number or name is invalid.
    """

    subjects: int
    test_subjects: int
    views: tuple[str, ...]
    conditions: tuple[str, ...]
    frames: int
    seed: int
    style: WalkerStyle
    frames_per_second: float = FRAMES_PER_SECOND
    generator: int = GENERATOR

    def __post_init__(self) -> None:
        if self.subjects < 1 or not 0 <= self.test_subjects <= self.subjects:
            raise DataError(f"{self.subjects} subjects cannot include {self.test_subjects} for testing")
        for kind, chosen, known in (("view", self.views, VIEWS), ("condition", self.conditions, CONDITIONS)):
            if unknown := sorted(set(chosen) - set(known)):
                raise DataError(f"unknown {kind} {unknown[0]!r}: use some of {', '.join(known)}")
        if self.frames < 1 or self.seed < 0:
            raise DataError(f"frames {self.frames} must be at least 1 and seed {self.seed} at least 0")
        if not 1 <= self.frames_per_second <= 1000:
            raise DataError(f"frames_per_second {self.frames_per_second} is outside 1..1000")

    @property
    def names(self) -> list[str]:
        """Folder names "001", "002", …; with more digits from a thousand subjects on."""
        digits = max(3, len(str(self.subjects)))
        return [f"{number:0{digits}d}" for number in range(1, self.subjects + 1)]

    @property
    def origin(self) -> dict[str, Any]:
        """Description of a population for the log of its tree; plain JSON."""
        return {"kind": "walkers", "population": json.loads(json.dumps(dataclasses.asdict(self)))}

    def jobs(self) -> list[Job[Walk]]:
        """One job for each sequence, in order."""
        stamp = hashlib.sha256(json.dumps(self.origin, sort_keys=True).encode()).hexdigest()[:16]
        return [
            Job(f"{name}/{condition}/{view}/{view}.pkl", (subject, condition, view), stamp, 1)
            for subject, name in enumerate(self.names)
            for condition in self.conditions
            for view in self.views
        ]

    def partition(self) -> dict[str, list[str]]:
        """The walkers for training and those for testing."""
        split = self.subjects - self.test_subjects
        return {"TRAIN_SET": self.names[:split], "TEST_SET": self.names[split:]}


def write_walkers(
    root: str | os.PathLike[str],
    *,
    subjects: int,
    test_subjects: int,
    views: Sequence[str] = VIEWS,
    conditions: Sequence[str] = CONDITIONS,
    frames: int = 60,
    seed: int = 0,
    workers: int = 0,
    style: WalkerStyle | None = None,
    frames_per_second: float = FRAMES_PER_SECOND,
    partition: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> int:
    """Write `root/<subject>/<condition>/<view>/<view>.pkl` for everybody, then the partition JSON.

    The bytes of a sequence depend neither on `workers` nor on the other subjects, conditions or views. Run it
    again to finish after an interruption: files are complete or absent, and complete ones are kept. The
    partition is written last, so if it exists, the tree is complete.

    Args:
        root: folder of the tree; new, empty, or begun by a run with the same parameters.
        subjects: number of people in all.
        test_subjects: number of people, the last ones, in TEST_SET; the others are in TRAIN_SET.
        views: which of VIEWS.
        conditions: which of CONDITIONS.
        frames: mean frames of a sequence; lengths vary by a tenth.
        seed: random seed of the population.
        workers: number of processes that render; 0 renders in this process.
        style: difficulty; the default WalkerStyle() if None.
        frames_per_second: frame rate of the cameras.
        partition: path of the JSON; beside the root as `<root>_partition.json` if None.
        progress: show a progress bar on stderr.

    Returns:
        The number of sequences written, without those that were complete already.

    Raises:
        DataError: a number or name is invalid, the root holds other files, or a worker was killed.
    """
    root = Path(root)
    partition = Path(partition) if partition else root.with_name(f"{root.name}_partition.json")
    ordered = tuple(sorted(set(views))), tuple(sorted(set(conditions)))
    style = style or WalkerStyle()
    people = Population(subjects, test_subjects, *ordered, frames, seed, style, frames_per_second)
    _check_free(root, people)
    task = _WriteWalk(root, people)
    done = run_jobs(task, people.jobs(), root, people.origin, workers=workers, progress=progress)
    write_atomically(partition, json.dumps(people.partition(), indent=1).encode())
    return done.new


def sequence_length(seed: int, subject: int, condition: str, view: str, frames: int) -> int:
    """Returns the length of one sequence: `frames` give or take a tenth, at least 1."""
    share = generator(seed, "length", subject, condition, view).uniform(0.9, 1.1)
    return max(1, round(frames * share))


def _check_free(root: Path, people: Population) -> None:
    """Refuses a root that holds other files.

    Raises:
        DataError: naming the files in it.
    """
    if (root / JOB_LOG).exists():
        header = read_header(root)
        if header is None:
            raise DataError(f"{root / JOB_LOG} is damaged: delete {root} or choose another folder")
        found = header.get("population")
        if header.get("kind") != "walkers" or not isinstance(found, dict):
            raise DataError(f"{root} holds a prepared dataset, not walkers: choose another folder")
        ours = people.origin["population"]
        if changed := [key for key in ours if found.get(key) != ours[key]]:
            raise DataError(
                f"{root} holds walkers with other {', '.join(changed)}: delete it or choose another"
            )
    elif (root / _OLD_MANIFEST).exists():
        raise DataError(
            f"{root} holds walkers of an earlier version ({_OLD_MANIFEST}), to train on but not to complete"
            ": delete it or choose another folder"
        )
    elif root.exists() and not (root.is_dir() and not any(root.iterdir())):
        raise DataError(f"{root} is not an empty folder and has no {JOB_LOG}: choose another")


@dataclasses.dataclass(frozen=True)
class _WriteWalk:
    """Renders a sequence and writes it as a pickled array."""

    root: Path
    people: Population

    def __call__(self, job: Job[Walk]) -> Outcome:
        people, (subject, condition, view) = self.people, job.work
        length = sequence_length(people.seed, *job.work, people.frames)
        silhouettes = render_sequence(people.seed, *job.work, length, people.style, people.frames_per_second)
        content = pickle.dumps(silhouettes)
        write_atomically(self.root / job.name, content, sync=False)
        stored = StoredSequence(people.names[subject], condition, view, length)
        return Outcome(job.name, job.stamp, len(content), (stored,))
