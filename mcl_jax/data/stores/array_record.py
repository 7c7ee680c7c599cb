"""Reads a folder of records: ArrayRecord files with one packed sequence in each record."""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from mcl_jax.data.sequences import SequenceRef
from mcl_jax.data.stores.frames import SILHOUETTES, Pixels
from mcl_jax.data.stores.manifest import RECORDS_MANIFEST, check_files, read_manifest
from mcl_jax.data.stores.silhouette_codec import PackedFrames
from mcl_jax.errors import DataError
from mcl_jax.utils.extras import require_extra
from mcl_jax.utils.retry import retried

_REMEDY = "restore the folder from a copy, or prepare it again as a new one"


class RecordsSource:
    """Reads the sequences of a folder of records; each process opens the files at its first read.

    A process compares a record with its checksum only at the first read: in every epoch, that would take as
    long as unpacking a clip. ArrayRecord itself detects later damage on the disk.
    """

    def __init__(self, root: Path, checksums: Sequence[int] = (), pixels: Pixels = SILHOUETTES):
        """Takes a folder; nothing is read yet.

        Args:
            root: the folder.
            checksums: CRC-32 of each record; empty if they are unknown.
            pixels: what the frames are.
        """
        self._pixels = pixels
        self._root = root
        self._checksums = np.array(checksums, np.uint32)
        self._checked = np.zeros(len(checksums), bool)
        self._records: Sequence[bytes] | None = None
        self._sound: set[int] = set()

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_records": None}

    def read(self, sequence: SequenceRef) -> PackedFrames:
        """Returns the silhouettes of a sequence, uint8 [s, 64, 64 or 44].

        Raises:
            DataError: if it is missing or damaged.
        """
        name, number = f"{self._root}: record {sequence.location} ({sequence.key})", int(sequence.location)
        try:
            record = retried(name, lambda: self._record(number))
            as_written = self._is_as_written(number, record)
            frames, held = _decode(record)
        except DataError:
            raise
        except Exception as error:  # a damaged file raises nearly anything
            raise DataError(f"{name}: cannot be read ({type(error).__name__}); {_REMEDY}") from None
        if held == sequence and not as_written:
            raise DataError(f"{name}: is damaged, or comes from another preparation; {_REMEDY}")
        if held != sequence:
            raise DataError(f"{name}: holds {held.key}; the files are mixed up, prepare them again")
        if number not in self._sound:  # only once, because unpacking a frame takes time
            self._pixels.check(frames, name)
            self._sound.add(number)
        return frames

    def _is_as_written(self, number: int, record: bytes) -> bool:
        if not self._checksums.size or self._checked[number]:
            return True
        self._checked[number] = zlib.crc32(record) == self._checksums[number]
        return bool(self._checked[number])

    def _record(self, number: int) -> bytes:
        if self._records is None:
            self._records = _open_folder(self._root)
            self._checked[:] = False
        try:
            return self._records[number]
        except Exception:
            self._records = None  # after a disk was disconnected, the open files stay unusable
            raise


def _open_folder(root: Path) -> Sequence[bytes]:
    # Not with TFDS, which would import any module that the folder's features.json names.
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    manifest = read_manifest(root)
    records: Sequence[bytes] = ArrayRecordDataSource([str(root / name) for name in manifest.files])
    if len(records) != len(manifest.sequences):
        raise DataError(
            f"{root}: has {len(records)} records, but {RECORDS_MANIFEST} lists {len(manifest.sequences)}"
        )
    return records


def _decode(example: bytes) -> tuple[PackedFrames, SequenceRef]:
    """Returns the frames, still packed, and the sequence's names; TFDS would unpack all frames."""
    from tensorflow_datasets.proto import tf_example_pb2

    features = tf_example_pb2.Example.FromString(example).features.feature
    subject, condition, view = (
        features[name].bytes_list.value[0].decode() for name in ("subject", "condition", "view")
    )
    frames = PackedFrames(features["silhouettes"].bytes_list.value[0])
    return frames, SequenceRef(subject, condition, view, "")


def open_records(root: Path, pixels: Pixels = SILHOUETTES) -> tuple[list[SequenceRef], RecordsSource]:
    """Lists the sequences of a folder of records, sorted, and returns the source that reads them.

    Raises:
        DataError: if the folder is missing, incomplete or of another version, or an extra is missing.
    """
    manifest = read_manifest(root)
    check_files(root, manifest)
    require_extra("records", "a folder of records")
    if not manifest.checksums:
        logging.warning(
            "%s: records of an earlier version, without digests: a shard from another preparation would go "
            "unnoticed; to get digests, prepare a new folder",
            root,
        )
    sequences = [
        SequenceRef(subject, condition, view, str(number))
        for number, (subject, condition, view, _) in enumerate(manifest.sequences)
    ]
    return sequences, RecordsSource(root, manifest.checksums, pixels)
