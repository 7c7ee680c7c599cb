"""Manifest of a folder of records, records.json; written last, so it marks a complete folder.

It lists the sequences, and has a digest of itself, a digest of the beginning and end of each shard, compared
when the folder is opened, and a CRC-32 of each record, compared when a process first reads the record.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from mcl_jax.errors import DataError
from mcl_jax.utils.digest import DigestError, check_seal, sealed
from mcl_jax.utils.files import write_atomically
from mcl_jax.utils.retry import retried

RECORDS_MANIFEST = "records.json"

RECORDS_FORMAT = 2
"""Version of the folder's content; increase it when older folders can no longer be read."""

RECORDS_SPLIT = "sequences"
"""The only split for TFDS; the partition, not the files, separates training from test."""

_MAX_BYTES = 2**28
"""At about 40 bytes a sequence, this is fifty times the largest dataset."""

_SAMPLE = 2**16  # bytes of each end of a shard, that is its first and last records
_THREADS = 16  # on a network disk each request is a round trip

_PREPARE = "run `mcl-jax prepare … --format records` again"
_REMEDY = f"restore the folder from a copy, or {_PREPARE}"


class StoredSequence(NamedTuple):
    """A sequence in a file: its names and its number of frames."""

    subject: str
    condition: str
    view: str
    frames: int


@dataclasses.dataclass(frozen=True)
class RecordsManifest:
    """Content of a folder of records.

    Attributes:
        dataset: name of the dataset.
        source: stamp that changes with the source.
        skipped_sequences: number of sequences left out.
        skipped_frames: number of frames left out of other sequences.
        files: name of each ArrayRecord file → size in bytes; in the order of the records.
        sequences: sorted; record n holds sequence n.
        samples: name of each file → its `sample_of`; empty in folders of earlier versions.
        checksums: CRC-32 of each record; empty in folders of earlier versions.
    """

    dataset: str
    source: str
    skipped_sequences: int
    skipped_frames: int
    files: Mapping[str, int]
    sequences: tuple[StoredSequence, ...]
    samples: Mapping[str, str] = dataclasses.field(default_factory=dict)
    checksums: tuple[int, ...] = ()


def write_manifest(root: Path, manifest: RecordsManifest) -> None:
    """Writes records.json, the last file of a folder of records.

    Raises:
        UserError: if it cannot be written.
    """
    content = sealed({"format": RECORDS_FORMAT, **vars(manifest)})
    write_atomically(root / RECORDS_MANIFEST, json.dumps(content, separators=(",", ":")).encode())


def read_manifest(root: Path, *, any_format: bool = False) -> RecordsManifest:
    """Reads and checks records.json.

    Args:
        root: the folder of records.
        any_format: accept other versions too; the names of sequences are the same in all.

    Raises:
        DataError: if the folder or the file is missing, damaged, or of another version.
    """
    if not root.is_dir():
        raise DataError(f"data.root: no folder {str(root)!r}; set it to a folder of records, or {_PREPARE}")
    path = root / RECORDS_MANIFEST
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{path}: damaged: over {_MAX_BYTES} bytes; {_REMEDY}")
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(
            f"{root}: no {RECORDS_MANIFEST}, so this is not a complete folder of records; {_PREPARE}, "
            'or set data.format to "tree"'
        ) from None
    except (OSError, ValueError, RecursionError):
        raise DataError(f"{path}: damaged; {_REMEDY}") from None
    found = content.get("format") if isinstance(content, dict) else None
    if found != RECORDS_FORMAT and not (any_format and type(found) is int):
        raise DataError(
            f"{path}: records of format {str(found)[:20]}, this version reads {RECORDS_FORMAT}; {_REMEDY}"
        )
    try:
        check_seal(content)
        return _parse(content)
    except (_MalformedError, DigestError) as error:
        raise DataError(f"{path}: damaged: {error}; {_REMEDY}") from None


def sample_of(path: Path) -> str:
    """Returns the digest of the beginning and the end of a file.

    Raises:
        OSError: if the file cannot be read.
    """
    with path.open("rb") as file:
        sample = file.read(_SAMPLE)
        file.seek(max(file.seek(0, os.SEEK_END) - _SAMPLE, 0))
        return hashlib.sha256(sample + file.read(_SAMPLE)).hexdigest()


def check_files(root: Path, manifest: RecordsManifest) -> None:
    """Checks that the files of a folder of records are present, complete and unchanged.

    It compares sizes and digests of beginnings and ends, because reading everything would take hours.

    Raises:
        DataError: naming the first file that is missing, incomplete or different.
    """
    for name, fault in faults(root, manifest).items():
        raise DataError(f"{root / name}: {fault}; {_REMEDY}")


def faults(root: Path, manifest: RecordsManifest) -> dict[str, str]:
    """Returns the damaged or missing files by name, each with its fault."""
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda name: _fault(root / name, manifest), manifest.files)
        return {name: fault for name, fault in zip(manifest.files, found, strict=True) if fault}


def _fault(file: Path, manifest: RecordsManifest) -> str:
    size, sample = manifest.files[file.name], manifest.samples.get(file.name)
    found = file.stat().st_size if file.is_file() else None
    if found is None:
        return "missing"
    if found != size:
        return f"incomplete or changed ({found} bytes instead of {size})"
    try:
        other = sample is not None and retried(str(file), lambda: sample_of(file)) != sample
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "damaged, or from another preparation" if other else ""


class _MalformedError(Exception):
    """A value has a wrong type or form; the message names its key."""


def _parse(content: dict[str, Any]) -> RecordsManifest:
    content = {"samples": {}, "checksums": []} | content  # earlier versions did not write these
    fields: dict[str, Any] = {
        field.name: content.get(field.name) for field in dataclasses.fields(RecordsManifest)
    }
    for key, value in fields.items():
        check, expected = _CHECKS[key]
        if not check(value):
            raise _MalformedError(f"{key} must be {expected}")
    sequences = tuple(StoredSequence(*sequence) for sequence in content["sequences"])
    checksums = tuple(content["checksums"])
    if checksums and len(checksums) != len(sequences):
        raise _MalformedError("there must be as many checksums as sequences")
    return RecordsManifest(**fields | {"sequences": sequences, "checksums": checksums})


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_text(value: object) -> bool:
    # JSON can contain half of a surrogate pair, which cannot be shown as text.
    return isinstance(value, str) and (value.isascii() or not any("\ud800" <= c <= "\udfff" for c in value))


def _is_plain(name: str) -> bool:
    return _is_text(name) and name not in ("", ".", "..") and not set(name) & set("/\\\0")


def _is_sequence(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4
        and all(map(_is_text, value[:3]))
        and _is_count(value[3])
        and value[3] > 0
    )


def _are_files(value: object) -> bool:
    return isinstance(value, dict) and all(_is_plain(n) and _is_count(b) for n, b in value.items())


def _are_sequences(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_sequence, value))


def _are_samples(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


def _are_checksums(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_count, value))


_CHECKS: dict[str, tuple[Callable[[object], bool], str]] = {
    "dataset": (_is_text, "text"),
    "source": (_is_text, "text"),
    "skipped_sequences": (_is_count, "a count"),
    "skipped_frames": (_is_count, "a count"),
    "files": (_are_files, "plain file names with their sizes in bytes"),
    "sequences": (_are_sequences, "a list of [subject, condition, view, frames]"),
    "samples": (_are_samples, "digests of files"),
    "checksums": (_are_checksums, "a list of numbers"),
}
"""Field of the manifest → check of its value, and the expected form for the error message."""
