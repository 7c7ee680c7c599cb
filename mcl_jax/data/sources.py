"""Where a record's pixels come from."""

import json
import math
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from mcl_jax.data.packed import PackedFrames
from mcl_jax.data.records import Record
from mcl_jax.errors import DataError

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
            with Path(record.location).open("rb") as file:
                array = _ArrayUnpickler(file).load_array()
        except OSError as error:
            raise DataError(f"{record.location}: cannot be read: {error.strerror}; {_MEND}") from None
        except _NotAnArrayError as error:
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


class _NotAnArrayError(Exception):
    """The pickle is damaged, or more than a NumPy array."""


class _PickledArray:
    """An inert stand-in for a pickled array: it only keeps what NumPy would have been called with."""

    def __init__(self) -> None:
        self.array: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        try:
            _, shape, dtype, fortran, content = state
        except (TypeError, ValueError):
            raise _NotAnArrayError("not a pickled NumPy array") from None
        self.array = _build_array(content, dtype, shape, "F" if fortran else "C")


class _PickledDtype:
    """An inert stand-in for a pickled dtype: the type code, and the byte order NumPy sets afterwards."""

    def __init__(self, code: Any, *_: Any):
        if not isinstance(code, str) or len(code) > 8:
            raise _NotAnArrayError("not a pickled NumPy array of numbers")
        self.code = code

    def __setstate__(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else "|"
        if order in ("<", ">"):
            self.code = order + self.code.lstrip("<>|=")


def _build_array(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if isinstance(dtype, _PickledDtype):
        try:
            resolved = np.dtype(dtype.code)
        except TypeError:
            raise _NotAnArrayError("not a pickled NumPy array of numbers") from None
        plain = resolved.kind in "biuf" and isinstance(content, bytes | bytearray)
        sized = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
        if plain and sized and len(content) == math.prod(shape) * resolved.itemsize:
            return np.frombuffer(content, resolved).reshape(shape, order="F" if order == "F" else "C")
    raise _NotAnArrayError("not a pickled NumPy array of numbers, or its size and content disagree")


def _reconstruct(*_: Any) -> _PickledArray:
    return _PickledArray()


def _from_buffer(*args: Any) -> np.ndarray:
    if len(args) != 4:
        raise _NotAnArrayError("not a pickled NumPy array")
    content, dtype, shape, order = args
    return _build_array(content, dtype, shape, order)


def _latin1_bytes(*args: Any) -> bytes:
    # How pickle protocol 2 writes bytes.
    if len(args) == 2 and isinstance(args[0], str) and args[1] == "latin1":
        return args[0].encode("latin1")
    raise _NotAnArrayError("not a pickled NumPy array")


_STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _PickledArray,
    ("numpy", "dtype"): _PickledDtype,
    ("_codecs", "encode"): _latin1_bytes,
}
for _package in ("numpy.core", "numpy._core"):  # before and since NumPy 2
    _STAND_INS[f"{_package}.multiarray", "_reconstruct"] = _reconstruct
    _STAND_INS[f"{_package}.numeric", "_frombuffer"] = _from_buffer


class _ArrayUnpickler(pickle.Unpickler):
    """Resolves the few names an array's pickle holds to stand-ins of ours, and refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns the stand-in for a global of the pickle."""
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise _NotAnArrayError(
                f"holds {module}.{name}, which is not part of a NumPy array; refused, nothing was executed"
            ) from None

    def load_array(self) -> np.ndarray:
        """Returns the array of the file, or raises _NotAnArrayError."""
        try:
            loaded = self.load()
        except _NotAnArrayError:
            raise
        except Exception as error:  # a damaged pickle raises nearly anything
            raise _NotAnArrayError(f"truncated or damaged pickle ({type(error).__name__})") from None
        array = loaded.array if isinstance(loaded, _PickledArray) else loaded
        if not isinstance(array, np.ndarray):
            raise _NotAnArrayError(f"holds a {type(loaded).__name__}, not a NumPy array")
        return array
