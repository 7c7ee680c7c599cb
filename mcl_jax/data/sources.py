"""Where a record's pixels come from."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from mcl_jax.data.array_pickle import MAX_PICKLE_BYTES, NotAnArrayError, read_array
from mcl_jax.data.packed import PackedFrames
from mcl_jax.data.records import Record
from mcl_jax.errors import DataError
from mcl_jax.files import read_bounded

HEIGHT = 64
WIDTHS = (64, 44)

RECORDS_MANIFEST = "records.json"
"""Written last into a folder of records: what it holds, and that it is complete."""

RECORDS_FORMAT = 2
RECORDS_SPLIT = "sequences"

_MANIFEST_KEYS = {"dataset", "source", "skipped_sequences", "skipped_frames", "files", "sequences"}

_MEND = "prepare the sequence again, or remove it"

Frames = np.ndarray | PackedFrames
"""Silhouettes, uint8 [s, 64, 64 or 44], that give an array when they are indexed."""

_F = TypeVar("_F", np.ndarray, PackedFrames)


class Source(Protocol):
    """Reads sequences; picklable, so that worker processes can have one each."""

    def read(self, record: Record) -> Frames:
        """Returns the silhouettes of a sequence.

        Raises:
            DataError: if they cannot be read or are not such an array.
        """


class PklSource:
    """The pickled arrays of a pkl tree. Only NumPy arrays are accepted, and nothing in a file is executed."""

    def read(self, record: Record) -> np.ndarray:
        """Returns the silhouettes of a sequence, uint8 [s, 64, 64 or 44].

        Raises:
            DataError: if the file is missing, damaged, or holds anything but such an array.
        """
        try:
            array = read_array(read_bounded(record.location, MAX_PICKLE_BYTES))
        except OSError as error:
            raise DataError(f"{record.location}: cannot be read: {error.strerror}; {_MEND}") from None
        except NotAnArrayError as error:
            raise DataError(f"{record.location}: {error}; {_MEND}") from None
        return check_frames(array, record.location)


class RecordsSource:
    """The ArrayRecord files of a folder of records, opened by each process when first read."""

    def __init__(self, root: Path):
        self._root = root
        self._sequences: Sequence[bytes] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_root": self._root, "_sequences": None}

    def read(self, record: Record) -> PackedFrames:
        """Returns the silhouettes of a sequence, uint8 [s, 64, 64 or 44].

        Raises:
            DataError: if it is missing or damaged.
        """
        name = f"{self._root}: record {record.location} ({record.key})"
        try:
            if self._sequences is None:
                self._sequences = _open_sequences(self._root)
            frames, held = _decode(self._sequences[int(record.location)])
        except Exception as error:  # a damaged file raises nearly anything
            raise DataError(
                f"{name}: cannot be read ({type(error).__name__}); delete the folder and prepare it again"
            ) from None
        if held != record:
            raise DataError(f"{name}: holds {held.key}; the files are mixed up, prepare them again")
        return check_frames(frames, name)


def _open_sequences(root: Path) -> Sequence[bytes]:
    import tensorflow_datasets as tfds  # takes a while, and a pkl tree needs none of it

    builder = tfds.builder_from_directory(str(root))
    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    return builder.as_data_source(RECORDS_SPLIT, deserialize_method=raw)


def _decode(example: bytes) -> tuple[PackedFrames, Record]:
    """Returns frames that are still packed, and whose they are; TFDS would unpack them all."""
    from tensorflow_datasets.proto import tf_example_pb2

    features = tf_example_pb2.Example.FromString(example).features.feature
    subject, condition, view = (
        features[name].bytes_list.value[0].decode() for name in ("subject", "condition", "view")
    )
    frames = PackedFrames(features["silhouettes"].bytes_list.value[0])
    return frames, Record(subject, condition, view, "")


def open_records(root: Path) -> tuple[list[Record], RecordsSource]:
    """Lists the sequences of a folder of records, sorted, and returns the source that reads them.

    Raises:
        DataError: if the folder is missing, of another version, or was cut off.
    """
    sequences = read_records_manifest(root)["sequences"]
    records = [
        Record(subject, condition, view, str(index))
        for index, (subject, condition, view, _) in enumerate(sequences)
    ]
    return records, RecordsSource(root)


def read_records_manifest(root: Path) -> dict[str, Any]:
    """Returns the manifest of a folder of records once its files are found to be whole.

    Keys: format, dataset, source (a stamp of what it was made from), skipped_sequences, skipped_frames,
    files (name → bytes), sequences (subject, condition, view, frames; in the order of the records).

    Raises:
        DataError: if the folder is missing, of another version, or was cut off.
    """
    remedy = "run scripts/prepare_data.py with --format records again"
    if not root.is_dir():
        raise DataError(f"data.root: no folder {str(root)!r}; set it to a folder of records, or {remedy}")
    path = root / RECORDS_MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(
            f"{root}: no {RECORDS_MANIFEST}, so no complete folder of records; {remedy}, "
            'or set data.format to "tree"'
        ) from None
    except (OSError, ValueError):
        raise DataError(f"{path}: damaged; delete the folder and {remedy}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != RECORDS_FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise DataError(
            f"{path}: records of format {found}, this version reads {RECORDS_FORMAT}; "
            f"delete the folder and {remedy}"
        )
    if not manifest.keys() >= _MANIFEST_KEYS:
        raise DataError(f"{path}: damaged; delete the folder and {remedy}")
    for name, size in manifest["files"].items():
        file = root / name
        found = file.stat().st_size if file.is_file() else None
        if found != size:
            state = "missing" if found is None else f"cut off or changed ({found} of {size} bytes)"
            raise DataError(f"{file}: {state}; {remedy}")
    return manifest


def check_frames(frames: _F, name: str) -> _F:
    """Returns the frames if they are a non-empty uint8 [s, 64, 64 or 44].

    Raises:
        DataError: if not; the message starts with `name`.
    """
    if frames.dtype != np.uint8:
        raise DataError(f"{name}: frames are {frames.dtype}; expected uint8 silhouettes in 0…255; {_MEND}")
    if frames.ndim != 3 or frames.shape[1] != HEIGHT or frames.shape[2] not in WIDTHS:
        raise DataError(
            f"{name}: array of shape {list(frames.shape)}; "
            f"expected [frames, {HEIGHT}, {WIDTHS[0]} or {WIDTHS[1]}]; {_MEND}"
        )
    if len(frames) == 0:
        raise DataError(f"{name}: the sequence is empty; {_MEND}")
    return frames
