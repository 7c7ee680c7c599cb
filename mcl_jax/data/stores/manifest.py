"""records.json: what a folder of records holds. It is written last, so that its presence says "complete"."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mcl_jax.errors import DataError
from mcl_jax.files import write_atomically

RECORDS_MANIFEST = "records.json"

RECORDS_FORMAT = 2
"""Version of the folder's content; raise it when older folders cannot be read any more."""

RECORDS_SPLIT = "sequences"
"""The one split that TFDS knows of: who trains and who tests, the partition says, not the files."""

_MAX_BYTES = 2**28
"""About 40 bytes a sequence: fifty times as many as the largest dataset has."""

_REMEDY = "run scripts/prepare_data.py with --format records again"


class StoredSequence(NamedTuple):
    """A sequence that has been written: its names, and how many frames it has."""

    subject: str
    condition: str
    view: str
    frames: int


@dataclasses.dataclass(frozen=True)
class RecordsManifest:
    """What a folder of records holds.

    Attributes:
        dataset: name of the dataset it was made of.
        source: a stamp that changes with the download.
        skipped_sequences: how many sequences were left out.
        skipped_frames: how many frames of other sequences were left out.
        files: name of each ArrayRecord file → its bytes; the records are in order of the files.
        sequences: in order of the records, which is sorted.
    """

    dataset: str
    source: str
    skipped_sequences: int
    skipped_frames: int
    files: Mapping[str, int]
    sequences: tuple[StoredSequence, ...]


def write_manifest(root: Path, manifest: RecordsManifest) -> None:
    """Writes records.json, the last file of a folder of records.

    Raises:
        UserError: if it cannot be written.
    """
    content = {"format": RECORDS_FORMAT, **vars(manifest)}
    write_atomically(root / RECORDS_MANIFEST, json.dumps(content, separators=(",", ":")).encode())


def read_manifest(root: Path, *, any_format: bool = False) -> RecordsManifest:
    """Reads and checks records.json.

    Args:
        root: the folder of records.
        any_format: accept other versions, whose sequences have the same names.

    Raises:
        DataError: if the folder or the file is missing, damaged, or of another version.
    """
    if not root.is_dir():
        raise DataError(f"data.root: no folder {str(root)!r}; set it to a folder of records, or {_REMEDY}")
    path = root / RECORDS_MANIFEST
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{path}: damaged: over {_MAX_BYTES} bytes; delete the folder and {_REMEDY}")
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(
            f"{root}: no {RECORDS_MANIFEST}, so this is not a complete folder of records; {_REMEDY}, "
            'or set data.format to "tree"'
        ) from None
    except (OSError, ValueError, RecursionError):
        raise DataError(f"{path}: damaged; delete the folder and {_REMEDY}") from None
    found = content.get("format") if isinstance(content, dict) else None
    if found != RECORDS_FORMAT and not (any_format and type(found) is int):
        raise DataError(
            f"{path}: records of format {str(found)[:20]}, this version reads {RECORDS_FORMAT}; "
            f"delete the folder and {_REMEDY}"
        )
    try:
        return _parse(content)
    except _MalformedError as error:
        raise DataError(f"{path}: damaged: {error}; delete the folder and {_REMEDY}") from None


def check_files(root: Path, manifest: RecordsManifest) -> None:
    """Checks that the files of a folder of records are there whole, by their sizes.

    Raises:
        DataError: naming the first that is missing or was cut off.
    """
    for name, size in manifest.files.items():
        file = root / name
        found = file.stat().st_size if file.is_file() else None
        if found != size:
            state = "missing" if found is None else f"cut off or changed ({found} of {size} bytes)"
            raise DataError(f"{file}: {state}; {_REMEDY}")


class _MalformedError(Exception):
    """A value has another type or form than it is written in; the message names its key."""


def _parse(content: dict[str, Any]) -> RecordsManifest:
    fields: dict[str, Any] = {
        field.name: content.get(field.name) for field in dataclasses.fields(RecordsManifest)
    }
    for key, value in fields.items():
        check, expected = _CHECKS[key]
        if not check(value):
            raise _MalformedError(f"{key} must be {expected}")
    sequences = tuple(StoredSequence(*sequence) for sequence in content["sequences"])
    return RecordsManifest(**fields | {"sequences": sequences})


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_text(value: object) -> bool:
    # Half of a surrogate pair, which JSON can spell, is no text that could be shown.
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


_CHECKS: dict[str, tuple[Callable[[object], bool], str]] = {
    "dataset": (_is_text, "text"),
    "source": (_is_text, "text"),
    "skipped_sequences": (_is_count, "a count"),
    "skipped_frames": (_is_count, "a count"),
    "files": (_are_files, "plain file names with their bytes"),
    "sequences": (_are_sequences, "a list of [subject, condition, view, frames]"),
}
"""Field of the manifest → whether a value can be it, and what is said of one that cannot."""
