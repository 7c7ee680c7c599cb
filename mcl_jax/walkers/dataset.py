"""Write a population of walkers as the pkl tree and partition JSON that real datasets come in."""

import dataclasses
import functools
import json
import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
from tqdm import tqdm

from mcl_jax.data.workers import live_with_parent
from mcl_jax.errors import DataError
from mcl_jax.files import write_atomically
from mcl_jax.walkers.sequence import render_sequence
from mcl_jax.walkers.style import CONDITIONS, VIEWS, WalkerStyle, generator

MANIFEST = "walkers.json"
GENERATOR = 1  # raise it when the same parameters come to mean other pixels

Job = tuple[int, str, str]  # subject, condition, view


@dataclasses.dataclass(frozen=True)
class Population:
    """All that decides the bytes of a tree; its JSON is the tree's manifest.

    Raises:
        DataError: impossible numbers or names.
    """

    subjects: int
    test_subjects: int
    views: tuple[str, ...]
    conditions: tuple[str, ...]
    frames: int
    seed: int
    style: WalkerStyle
    generator: int = GENERATOR

    def __post_init__(self) -> None:
        if self.subjects < 1 or not 0 <= self.test_subjects <= self.subjects:
            raise DataError(f"{self.subjects} subjects with {self.test_subjects} for testing: impossible")
        for kind, chosen, known in (("view", self.views, VIEWS), ("condition", self.conditions, CONDITIONS)):
            if unknown := sorted(set(chosen) - set(known)):
                raise DataError(f"unknown {kind} {unknown[0]!r}: use some of {', '.join(known)}")
        if self.frames < 1 or self.seed < 0:
            raise DataError(f"frames {self.frames} must be at least 1 and seed {self.seed} at least 0")

    @property
    def names(self) -> list[str]:
        """Folder names "001", "002", …; wider from a thousand subjects on."""
        digits = max(3, len(str(self.subjects)))
        return [f"{number:0{digits}d}" for number in range(1, self.subjects + 1)]

    def path(self, root: Path, job: Job) -> Path:
        """Where a sequence lies."""
        subject, condition, view = job
        return root / self.names[subject] / condition / view / f"{view}.pkl"

    def partition(self) -> dict[str, list[str]]:
        """Who is for training and who for testing."""
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
    partition: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> int:
    """Write `root/<subject>/<condition>/<view>/<view>.pkl` for everybody, then the partition JSON.

    The bytes depend on neither `workers` nor on which other subjects, conditions or views are written. An
    interrupted run is finished by running it again: files are complete or absent, and complete ones are kept.
    The partition is written last, so that its presence says that the tree is complete.

    Args:
        root: folder of the tree; new, empty, or begun by a run with the same parameters.
        subjects: how many people in all.
        test_subjects: how many of them, the last ones, are TEST_SET; the others are TRAIN_SET.
        views: which of VIEWS.
        conditions: which of CONDITIONS.
        frames: mean frames of a sequence; lengths vary by a tenth.
        seed: of the population.
        workers: processes that render; 0 renders in this one.
        style: difficulty; the default WalkerStyle() if None.
        partition: path of the JSON; beside the root as `<root>_partition.json` if None.
        progress: show a progress bar on stderr.

    Returns:
        How many sequences were written; those found complete are not counted.

    Raises:
        DataError: impossible numbers or names, or a root that holds something else.
    """
    root = Path(root)
    partition = Path(partition) if partition else root.with_name(f"{root.name}_partition.json")
    ordered = tuple(sorted(set(views))), tuple(sorted(set(conditions)))
    people = Population(subjects, test_subjects, *ordered, frames, seed, style or WalkerStyle())
    _claim(root, people)
    everything = [(s, c, v) for s in range(subjects) for c in people.conditions for v in people.views]
    jobs = [job for job in everything if not people.path(root, job).exists()]
    done = _run(functools.partial(_write_sequence, root, people), jobs, workers)
    for _ in tqdm(done, total=len(jobs), unit="seq", disable=not progress):
        pass
    write_atomically(partition, json.dumps(people.partition(), indent=1).encode())
    return len(jobs)


def sequence_length(seed: int, subject: int, condition: str, view: str, frames: int) -> int:
    """Frames of one sequence: `frames` give or take a tenth, at least 1."""
    share = generator(seed, "length", subject, condition, view).uniform(0.9, 1.1)
    return max(1, round(frames * share))


def _claim(root: Path, people: Population) -> None:
    """Make `root` the place of this population, or refuse."""
    manifest = root / MANIFEST
    ours = json.loads(json.dumps(dataclasses.asdict(people)))
    if manifest.exists():
        try:
            found = json.loads(manifest.read_bytes())
            changed = [key for key in ours if found.get(key) != ours[key]]
        except (ValueError, AttributeError):
            raise DataError(f"{manifest} is damaged: delete {root} or choose another folder") from None
        if changed:
            raise DataError(
                f"{root} holds walkers with other {', '.join(changed)}: delete it or choose another"
            )
    elif root.exists() and not (root.is_dir() and not any(root.iterdir())):
        raise DataError(f"{root} is not an empty folder and has no {MANIFEST}: choose another")
    else:
        write_atomically(manifest, json.dumps(ours, indent=1).encode())


def _run(write: Callable[[Job], None], jobs: list[Job], workers: int) -> Iterator[None]:
    """Do the jobs here, or in fresh processes, which inherit nothing that could be in an odd state."""
    if workers <= 0 or not jobs:
        yield from map(write, jobs)
        return
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(min(workers, len(jobs)), _start_worker) as pool:
        yield from pool.imap_unordered(write, jobs, chunksize=8)


def _start_worker() -> None:
    live_with_parent()
    cv2.setNumThreads(0)  # the processes are the parallelism


def _write_sequence(root: Path, people: Population, job: Job) -> None:
    length = sequence_length(people.seed, *job, people.frames)
    silhouettes = render_sequence(people.seed, *job, length, people.style)
    write_atomically(people.path(root, job), pickle.dumps(silhouettes), sync=False)
