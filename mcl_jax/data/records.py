"""Which sequences there are: records without pixels, from a pkl tree, and their split into train and test."""

import dataclasses
import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import logging

from mcl_jax.errors import DataError
from mcl_jax.files import read_bounded

_MOST_LISTED = 100
_MAX_PARTITION_BYTES = 2**24  # a million names; the largest dataset has 26,000 subjects


@dataclasses.dataclass(frozen=True, order=True)
class Record:
    """One silhouette sequence.

    Records sort by (subject, condition, view), the order every list of them is in.

    Attributes:
        subject: name of the person, e.g. "001".
        condition: what they wore or when, e.g. "nm-01".
        view: the camera's angle or name, e.g. "090".
        location: where a source finds the pixels; for a pkl tree the file's path.
    """

    subject: str
    condition: str
    view: str
    location: str = dataclasses.field(compare=False)

    @property
    def key(self) -> str:
        """The name shown to people, subject/condition/view."""
        return f"{self.subject}/{self.condition}/{self.view}"


@dataclasses.dataclass(frozen=True)
class Partition:
    """Which subjects train and which test; `probe_set` names probes as subject-condition-view (Gait3D)."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    probe_set: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Split:
    """The sequences of one phase.

    Attributes:
        records: sorted.
        subjects: sorted; a subject's rank here is its class.
    """

    records: tuple[Record, ...]
    subjects: tuple[str, ...]


def scan_tree(root: Path) -> list[Record]:
    """Lists the sequences of a pkl tree ROOT/subject/condition/view/*.pkl, sorted.

    Of several files in one folder the first by name is the silhouettes, as in the reference.

    Raises:
        DataError: if there is no such tree, or a sequence folder without a pkl file.
    """
    return walk_tree(root)[0]


def walk_tree(root: Path) -> tuple[list[Record], list[str]]:
    """Does what `scan_tree` does, and returns every folder below the root that was looked into, too.

    Raises:
        DataError: as `scan_tree`.
    """
    if not root.is_dir():
        raise DataError(f"data.root: no folder {str(root)!r}; set it to the pkl tree of the dataset")
    records, folders = [], []
    for subject in subfolders(root):
        folders.append(subject.path)
        for condition in subfolders(subject.path):
            folders.append(condition.path)
            for view in subfolders(condition.path):
                folders.append(view.path)
                file = _first_pkl(view.path)
                if file is None:
                    raw = any(entry.name.lower().endswith(".png") for entry in entries(view.path))
                    remedy = (
                        "its PNGs must be prepared first, by scripts/prepare_data.py"
                        if raw
                        else "remove the folder or prepare the sequence again"
                    )
                    raise DataError(f"{view.path}: no .pkl file; {remedy}")
                records.append(Record(subject.name, condition.name, view.name, file))
    if not records:
        raise DataError(f"data.root: no sequence under {str(root)!r}; expected subject/condition/view/*.pkl")
    return sorted(records), folders


def subfolders(folder: str | Path) -> list[os.DirEntry[str]]:
    """Returns the folders in a folder, by name, without hidden ones.

    Raises:
        DataError: if it cannot be read.
    """
    found = [entry for entry in entries(folder) if not entry.name.startswith(".") and entry.is_dir()]
    return sorted(found, key=lambda entry: entry.name)


def entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """Returns what is in a folder.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}; check its permissions") from None


def _first_pkl(folder: str) -> str | None:
    files = (e.path for e in entries(folder) if e.name.endswith(".pkl") and e.name != ".pkl")
    return min(files, default=None)


def read_partition(path: Path) -> Partition:
    """Reads a partition JSON with TRAIN_SET, TEST_SET and optionally PROBE_SET.

    Raises:
        DataError: if the file is missing or malformed, or a subject is in both sets.
    """
    content = _read_json(path)
    train, test = _names(path, content, "TRAIN_SET"), _names(path, content, "TEST_SET")
    both = sorted(set(train) & set(test))
    if both:
        raise DataError(f"{path}: {len(both)} subjects are in TRAIN_SET and TEST_SET, e.g. {both[0]!r}")
    return Partition(train, test, _names(path, content, "PROBE_SET") if "PROBE_SET" in content else None)


def read_probe_set(path: Path) -> tuple[str, ...]:
    """Reads the PROBE_SET of a partition JSON, all that scoring needs of it.

    Raises:
        DataError: if the file is missing or malformed.
    """
    return _names(path, _read_json(path), "PROBE_SET")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_bounded(path, _MAX_PARTITION_BYTES).decode("utf-8"))
    except OSError as error:
        raise DataError(f"{path}: the partition cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a JSON file: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: no partition; expected an object with TRAIN_SET and TEST_SET")
    return content


def _names(path: Path, content: dict[str, Any], key: str) -> tuple[str, ...]:
    names = content.get(key)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: {key} must be a list of names")
    return tuple(names)


def select(records: Sequence[Record], subjects: Sequence[str], phase: str) -> Split:
    """Returns the sequences of the given subjects; those of them that have none are dropped and reported.

    Raises:
        DataError: if no subject has a sequence, or two records share a key.
    """
    wanted = set(subjects)
    chosen = tuple(sorted(r for r in records if r.subject in wanted))
    for first, second in itertools.pairwise(chosen):
        if first == second:
            raise DataError(f"{first.key}: two sequences of this name: {first.location}, {second.location}")
    found = {r.subject for r in chosen}
    missing = sorted(wanted - found)
    if not found:
        raise DataError(
            f"none of the {len(wanted)} {phase} subjects of the partition has a sequence in data.root; "
            f"expected folders like {missing[0] if missing else '(the partition is empty)'!r}"
        )
    if missing:
        shown = ", ".join(missing[:_MOST_LISTED]) + (", …" if len(missing) > _MOST_LISTED else "")
        logging.warning("%d of %d %s subjects have no sequence: %s", len(missing), len(wanted), phase, shown)
    return Split(chosen, tuple(sorted(found)))
