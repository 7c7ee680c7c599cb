"""References to sequences (without pixels), and their split into training and test."""

import dataclasses
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from absl import logging

from mcl_jax.errors import DataError
from mcl_jax.utils.files import read_bounded
from mcl_jax.utils.names import written_otherwise

CUT_SHAPE = (64, 44)
"""Rows and columns of a cut frame of most datasets."""

_MAX_LISTED = 100
_MAX_PARTITION_BYTES = 2**24  # a million names; the largest dataset has 26,000 subjects


@dataclasses.dataclass(frozen=True, order=True)
class SequenceRef:
    """Name and location of a silhouette sequence, without its pixels.

    References sort by (subject, condition, view); every list of them is in this order.

    Attributes:
        subject: name of the person, e.g. "001".
        condition: how or when the person walked, e.g. "nm-01".
        view: the camera's angle or name, e.g. "090".
        location: path of a pkl file or of a folder of PNGs, or the number of a record.
    """

    subject: str
    condition: str
    view: str
    location: str = dataclasses.field(compare=False)

    def __post_init__(self) -> None:
        """Checks the names.

        Raises:
            DataError: if a name is not UTF-8, because records and reports cannot hold it.
        """
        for name in (self.subject, self.condition, self.view):
            if not name.isascii() and any("\ud800" <= c <= "\udfff" for c in name):
                raise DataError(f"{self.key!r}: {name!r} is not UTF-8; rename the folder")

    @property
    def key(self) -> str:
        """The name shown to people, subject/condition/view."""
        return f"{self.subject}/{self.condition}/{self.view}"


class Frames(Protocol):
    """Silhouettes, uint8 [s, 64, 64 or 44]; indexing returns an array."""

    def __len__(self) -> int:
        """Returns the number of frames."""

    def __getitem__(self, index: Any, /) -> np.ndarray:
        """Returns the indexed frames as an array."""


class Source(Protocol):
    """Reads the pixels of sequences; picklable, so that each worker process can have its own."""

    def read(self, sequence: SequenceRef, /) -> Frames:
        """Returns the silhouettes of a sequence.

        Raises:
            DataError: if they cannot be read or are not silhouettes.
        """


@dataclasses.dataclass(frozen=True)
class Partition:
    """The subjects to train on and those to test on.

    Attributes:
        train: names of the people to train on.
        test: names of the people to test on.
        probe_set: names of the probes, as subject-condition-view (Gait3D); None if the protocol chooses them.
        gallery_set: names of the gallery's sequences (CCGR-MINI, FreeGait); None for all except the probes.
    """

    train: tuple[str, ...]
    test: tuple[str, ...]
    probe_set: tuple[str, ...] | None = None
    gallery_set: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Split:
    """The sequences for training, or those for testing.

    Attributes:
        sequences: sorted.
        subjects: sorted; the position of a subject is its class.
        source: reads the pixels.
        one: the pixel value that models see as 1.
        frame_shape: rows and columns of a frame after it is cut.
    """

    sequences: tuple[SequenceRef, ...]
    subjects: tuple[str, ...]
    source: Source
    one: int = 255
    frame_shape: tuple[int, int] = CUT_SHAPE


def read_partition(path: Path) -> Partition:
    """Reads a partition JSON with TRAIN_SET, TEST_SET and optionally PROBE_SET and GALLERY_SET.

    Raises:
        DataError: if the file is missing or malformed, or a subject is in both sets.
    """
    content = _read_json(path)
    train, test = _names(path, content, "TRAIN_SET"), _names(path, content, "TEST_SET")
    both = sorted(set(train) & set(test))
    if both:
        raise DataError(f"{path}: {len(both)} subjects are in TRAIN_SET and TEST_SET, e.g. {both[0]!r}")
    probes, gallery = (_optional_names(path, content, key) for key in ("PROBE_SET", "GALLERY_SET"))
    return Partition(train, test, probes, gallery)


def read_probe_set(path: Path) -> tuple[str, ...] | None:
    """Reads the PROBE_SET of a partition JSON; None if there is none.

    Raises:
        DataError: if the file is missing or malformed.
    """
    return _optional_names(path, _read_json(path), "PROBE_SET")


def read_gallery_set(path: Path) -> tuple[str, ...] | None:
    """Reads the GALLERY_SET of a partition JSON; None if there is none.

    Raises:
        DataError: if the file is missing or malformed.
    """
    return _optional_names(path, _read_json(path), "GALLERY_SET")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_bounded(path, _MAX_PARTITION_BYTES).decode("utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path}: cannot read the partition: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a JSON file: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: not a partition; expected an object with TRAIN_SET and TEST_SET")
    return content


def _names(path: Path, content: dict[str, Any], key: str) -> tuple[str, ...]:
    names = content.get(key)
    if isinstance(names, list) and (numbers := [name for name in names if isinstance(name, int | float)]):
        raise DataError(
            f"{path}: {key} holds numbers, such as {numbers[0]}; write the folder names as text, "
            f'such as "{numbers[0]}" or "{numbers[0]:03}"'
        )
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: {key} must be a list of names")
    return tuple(names)


def _optional_names(path: Path, content: dict[str, Any], key: str) -> tuple[str, ...] | None:
    return _names(path, content, key) if key in content else None


def select(sequences: Sequence[SequenceRef], subjects: Sequence[str], phase: str, source: Source) -> Split:
    """Returns the sequences of the given subjects; logs a warning with the subjects that have none.

    Raises:
        DataError: if no subject has a sequence, or two sequences share a name.
    """
    wanted = set(subjects)
    chosen = tuple(sorted(s for s in sequences if s.subject in wanted))
    for first, second in itertools.pairwise(chosen):
        if first == second:
            raise DataError(f"{first.key}: two sequences have this name: {first.location}, {second.location}")
    found = {s.subject for s in chosen}
    missing = sorted(wanted - found)
    others = {s.subject for s in sequences} - wanted
    if not found:
        raise DataError(
            f"none of the {len(wanted)} {phase} subjects of the partition has a sequence in data.root; "
            f"expected folders like {missing[0] if missing else '(the partition is empty)'!r}, "
            f"found {', '.join(map(repr, sorted(others)[:3]))}{written_otherwise(missing, others)}"
        )
    if missing:
        shown = ", ".join(missing[:_MAX_LISTED]) + (", …" if len(missing) > _MAX_LISTED else "")
        logging.warning(
            "%d of %d %s subjects have no sequence: %s%s",
            len(missing),
            len(wanted),
            phase,
            shown,
            written_otherwise(missing, others),
        )
    return Split(chosen, tuple(sorted(found)), source)
