"""Embeddings of a test set, with the labels that protocols need; in memory and on disk."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from mcl_jax.errors import DataError
from mcl_jax.utils.digest import DIGEST_KEY, hash_arrays
from mcl_jax.utils.files import write_atomically
from mcl_jax.utils.npz import read_npz

LABELS = ("subjects", "conditions", "views")
KEYS = ("embeddings", *LABELS)

SilhouetteFn = Callable[[int], np.ndarray]
"""Index of a sequence → its frames, uint8 [s, h, w]."""

ExplainFn = Callable[[int, int], bytes]
"""Indices of two sequences → a page that explains their distance; raises DataError where it cannot."""


@dataclass(frozen=True, repr=False, init=False, eq=False)
class EmbeddingSet:
    """Embeddings of n sequences, with subject, condition and view of each; lists become arrays.

    Attributes:
        embeddings: float32 [n, parts, channels], all finite.
        subjects: str [n], the identity, for example "075".
        conditions: str [n], for example "nm-01".
        views: str [n], for example "090". No two sequences share subject, condition and view.

    Raises:
        DataError: if shapes or types differ from these, a value is not finite, or a sequence occurs twice.
    """

    embeddings: np.ndarray
    subjects: np.ndarray
    conditions: np.ndarray
    views: np.ndarray

    def __init__(
        self,
        embeddings: np.ndarray | Sequence[Any],
        subjects: np.ndarray | Sequence[Any],
        conditions: np.ndarray | Sequence[Any],
        views: np.ndarray | Sequence[Any],
    ):
        x = embeddings if isinstance(embeddings, np.ndarray) else _blocks(embeddings)
        object.__setattr__(self, "embeddings", x)
        for name, given in zip(LABELS, (subjects, conditions, views), strict=True):
            object.__setattr__(self, name, given if isinstance(given, np.ndarray) else _labels(given))
        if x.ndim != 3 or 0 in x.shape or x.dtype != np.float32:
            raise DataError(
                f"embeddings: expected float32 [n, parts, channels], no size 0, "
                f"found {x.dtype} {list(x.shape)}: give one [parts, channels] per sequence"
            )
        for name in LABELS:
            labels = getattr(self, name)
            if labels.shape != x.shape[:1] or labels.dtype.kind != "U":
                raise DataError(
                    f"{name}: expected one string for each of the {len(x)} embeddings, "
                    f"found {labels.dtype} {list(labels.shape)}: give a string array of that length"
                )
            odd = [label for label in labels.tolist() if any("\ud800" <= c <= "\udfff" for c in label)]
            if odd:
                raise DataError(f"{name}: {odd[0]!r} is not UTF-8, so reports cannot hold it: rename it")
        self._check_finite()
        self._check_unique()

    def __len__(self) -> int:
        return len(self.embeddings)

    def __repr__(self) -> str:
        _, parts, channels = self.embeddings.shape
        different = ", ".join(f"{len(set(getattr(self, name).tolist()))} {name}" for name in LABELS)
        return f"EmbeddingSet({len(self)} sequences, {different}; {parts} parts × {channels} channels)"

    def key(self, i: int) -> str:
        """Returns `subject-condition-view` of sequence i, its name in partition files."""
        return f"{self.subjects[i]}-{self.conditions[i]}-{self.views[i]}"

    def keys(self) -> list[str]:
        """Returns `subject-condition-view` of every sequence."""
        return [self.key(i) for i in range(len(self))]

    @property
    def digest(self) -> str:
        """SHA-256 of embeddings and labels; a saved file holds it as "sha256"."""
        return _digest({key: getattr(self, key) for key in KEYS})

    def save(self, path: str | Path) -> None:
        """Writes an .npz file, completely or not at all, with a digest of its arrays as "sha256".

        Raises:
            UserError: if it cannot be written.
        """
        buffer = BytesIO()
        arrays = {key: getattr(self, key) for key in KEYS}
        np.savez(buffer, allow_pickle=False, **arrays, **{DIGEST_KEY: np.array(self.digest)})
        write_atomically(path, buffer.getbuffer())

    @classmethod
    def load(cls, path: str | Path) -> "EmbeddingSet":
        """Reads a file written by `save`, without executing anything from it.

        Raises:
            DataError: if the file is missing, damaged, pickled or incomplete, or has unusable values.
        """
        arrays = read_npz(Path(path), (*KEYS, DIGEST_KEY), remedy="write it with EmbeddingSet.save")
        missing = [key for key in KEYS if key not in arrays]
        if missing:
            raise DataError(
                f"{path}: no {', '.join(missing)} (found {', '.join(sorted(arrays)) or 'nothing'}): "
                f"write the file with EmbeddingSet.save"
            )
        digest = arrays.pop(DIGEST_KEY, None)
        if digest is None:  # written by another program; the archive still has a CRC-32 of each array
            logging.info("%s: has no digest, so mixed-up arrays of different sets would go unnoticed", path)
        elif str(digest) != _digest({key: arrays[key] for key in KEYS}):
            raise DataError(
                f"{path}: damaged or changed: its arrays do not fit its digest: restore the file, or embed "
                "again"
            )
        try:
            return cls(**{key: arrays[key] for key in KEYS})
        except DataError as error:
            raise DataError(f"{path}: {error}") from None

    def _check_finite(self) -> None:
        bad = np.flatnonzero(~np.isfinite(self.embeddings).all(axis=(1, 2)))
        if bad.size:
            raise DataError(
                f"embeddings: NaN or infinite values in {bad.size} of {len(self)} sequences, the first is "
                f"{self.key(int(bad[0]))}: check its silhouettes, and whether training diverged"
            )

    def _check_unique(self) -> None:
        seen: set[str] = set()
        for key in self.keys():
            if key in seen:
                raise DataError(f"sequence {key} occurs more than once: keep one embedding of each sequence")
            seen.add(key)


def _labels(given: Sequence[Any]) -> np.ndarray:
    """Returns labels as an array; values that are not text are kept, and refused later."""
    return np.array(given, str if all(isinstance(label, str) for label in given) else object)


def _blocks(given: Sequence[Any]) -> np.ndarray:
    """Returns a list of embeddings, one per sequence, as an array.

    Raises:
        DataError: if they differ in shape, or are not numbers.
    """
    try:
        with np.errstate(over="ignore"):  # overflows become infinite, and are refused later
            return np.asarray(given, np.float32)
    except (TypeError, ValueError):
        raise DataError(
            "embeddings: expected one block [parts, channels] of numbers for each sequence, all of one shape"
        ) from None


def _digest(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    hash_arrays(digest, arrays)
    return digest.hexdigest()
