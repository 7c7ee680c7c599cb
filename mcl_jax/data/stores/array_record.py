"""A folder of records: ArrayRecord files that hold a packed sequence in each record."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcl_jax.data.sequences import SequenceRef
from mcl_jax.data.stores.frames import check_frames
from mcl_jax.data.stores.manifest import check_files, read_manifest
from mcl_jax.data.stores.packed import PackedFrames
from mcl_jax.errors import DataError
from mcl_jax.retry import retried


class RecordsSource:
    """Reads the sequences of a folder of records; each process opens the files when it first reads."""

    def __init__(self, root: Path):
        self._root = root
        self._records: Sequence[bytes] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_records": None}

    def read(self, sequence: SequenceRef) -> PackedFrames:
        """Returns the silhouettes of a sequence, uint8 [s, 64, 64 or 44].

        Raises:
            DataError: if it is missing or damaged.
        """
        name = f"{self._root}: record {sequence.location} ({sequence.key})"
        try:
            frames, held = _decode(retried(name, lambda: self._record(int(sequence.location))))
        except Exception as error:  # a damaged file raises nearly anything
            raise DataError(
                f"{name}: cannot be read ({type(error).__name__}); delete the folder and prepare it again"
            ) from None
        if held != sequence:
            raise DataError(f"{name}: holds {held.key}; the files are mixed up, prepare them again")
        return check_frames(frames, name)

    def _record(self, number: int) -> bytes:
        if self._records is None:
            self._records = _open_folder(self._root)
        try:
            return self._records[number]
        except Exception:
            self._records = None  # a disk that comes back does not know the open files any more
            raise


def require_array_record() -> None:
    """Checks that ArrayRecord files can be read and written here.

    Raises:
        DataError: if they cannot: there is no array-record for Windows.
    """
    if importlib.util.find_spec("array_record") is None:
        raise DataError(
            "records need the package array-record, which is not installed, and which Windows has none of; a "
            "pkl tree trains the same without it: leave out --format records"
        )


def _open_folder(root: Path) -> Sequence[bytes]:
    # Not by TFDS, which would import whatever module the folder's features.json names.
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    return ArrayRecordDataSource([str(root / name) for name in read_manifest(root).files])


def _decode(example: bytes) -> tuple[PackedFrames, SequenceRef]:
    """Returns frames that are still packed, and whose they are; TFDS would unpack them all."""
    from tensorflow_datasets.proto import tf_example_pb2

    features = tf_example_pb2.Example.FromString(example).features.feature
    subject, condition, view = (
        features[name].bytes_list.value[0].decode() for name in ("subject", "condition", "view")
    )
    frames = PackedFrames(features["silhouettes"].bytes_list.value[0])
    return frames, SequenceRef(subject, condition, view, "")


def open_records(root: Path) -> tuple[list[SequenceRef], RecordsSource]:
    """Lists the sequences of a folder of records, sorted, and returns the source that reads them.

    Raises:
        DataError: if the folder is missing, of another version or cut off, or records cannot be read here.
    """
    manifest = read_manifest(root)
    check_files(root, manifest)
    require_array_record()
    sequences = [
        SequenceRef(subject, condition, view, str(number))
        for number, (subject, condition, view, _) in enumerate(manifest.sequences)
    ]
    return sequences, RecordsSource(root)
