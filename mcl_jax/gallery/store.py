"""A gallery on disk: `gallery.json` with names and thresholds, and an array file of embeddings.

gallery.json holds a digest of its content: names, thresholds, model, and the CRC-32 of each embedding.

New walks are appended to the array. They count only after gallery.json, replaced in one step, lists them. If
a writer dies before that, the next writer overwrites its rows. Renaming replaces gallery.json. Deleting
writes a new array, so nothing about a deleted person stays. Readers take no lock: the array they have mapped
stays valid.
"""

import dataclasses
import json
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mcl_jax.errors import DataError, UserError
from mcl_jax.gallery.calibration import Calibration, calibration_of
from mcl_jax.utils.digest import DigestError, check_seal, sealed
from mcl_jax.utils.files import read_bounded, write_atomically

INDEX = "gallery.json"
LOCK = "gallery.lock"
REMEDY = "restore the folder from a copy, or enrol everybody into a new one"
"""Advice for a damaged gallery that destroys nothing."""

_FORMAT = 1
_LARGEST = 1 << 30  # bytes of gallery.json
_DATA = re.compile(r"embeddings-\d{1,9}\.f32")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class ModelId:
    """The model that made the embeddings.

    Attributes:
        path: its path when the gallery was made.
        digest: digest of its weights and sizes; see `mcl_jax.Gait.digest`.
        parts: number of parts of an embedding.
        channels: number of channels of each part.
    """

    path: str
    digest: str
    parts: int
    channels: int


@dataclasses.dataclass(frozen=True)
class WalkEntry:
    """One walk: whose it is, how many silhouettes it has, and the CRC-32 of its embedding."""

    name: str
    frames: int
    crc: int


@dataclasses.dataclass(frozen=True)
class Index:
    """Content of gallery.json; walk i is row i of the array. Earlier versions lack a digest."""

    model: ModelId
    data: str
    walks: tuple[WalkEntry, ...]
    calibration: Calibration | None
    has_digest: bool = True

    def row_bytes(self) -> int:
        """Returns the size of an embedding in bytes."""
        return 4 * self.model.parts * self.model.channels


def read_index(folder: Path) -> Index:
    """Reads gallery.json.

    Raises:
        DataError: if there is none, or it is damaged.
    """
    path = folder / INDEX
    try:
        content = json.loads(read_bounded(path, _LARGEST))
    except FileNotFoundError:
        raise DataError(f"{folder}: is not a gallery; create one with mcl-jax enroll") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise _damaged(path) from None
    if isinstance(content, dict) and content.get("format") not in (None, _FORMAT):
        raise DataError(
            f"{path}: was written by another version of mcl_jax; use that version, or enrol into a new folder"
        )
    try:
        has_digest = check_seal(content)
        return dataclasses.replace(_index_of(content, path), has_digest=has_digest)
    except DigestError as error:
        raise _damaged(path, str(error)) from None
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _damaged(path) from None


def _index_of(content: Mapping[str, Any], path: Path) -> Index:
    model = ModelId(**content["model"])
    walks = tuple(WalkEntry(*entry) for entry in content["walks"])
    sound = (
        type(model.parts) is type(model.channels) is int
        and min(model.parts, model.channels) > 0
        and isinstance(model.path, str)
        and _DIGEST.fullmatch(model.digest)
        and _DATA.fullmatch(content["data"])  # a file name in this folder, never a path
        and all(isinstance(walk.name, str) and type(walk.frames) is type(walk.crc) is int for walk in walks)
    )
    if not sound:
        raise ValueError(path)
    stored = content["calibration"]
    calibration = None if stored is None else calibration_of(stored, stored["source"])
    return Index(model, content["data"], walks, calibration)


def _damaged(path: Path, why: str = "") -> DataError:
    detail = f" ({why})" if why else ""
    return DataError(f"{path}: is damaged or cut off{detail}; {REMEDY}")


def write_index(folder: Path, index: Index) -> None:
    """Replaces gallery.json in one step.

    Raises:
        UserError: if it cannot be written.
    """
    content = {
        "format": _FORMAT,
        "model": dataclasses.asdict(index.model),
        "data": index.data,
        "walks": [dataclasses.astuple(walk) for walk in index.walks],
        "calibration": index.calibration and index.calibration.as_json(),
    }
    text = json.dumps(sealed(content), ensure_ascii=False)
    # The path of the model may not be UTF-8.
    write_atomically(folder / INDEX, text.encode(errors="surrogatepass"))


def read_rows(folder: Path, index: Index) -> np.ndarray:
    """Maps the embeddings, float32 [walks, parts, channels]; read from the disk as they are used.

    Raises:
        DataError: if the file is missing, or too short.
    """
    path, shape = folder / index.data, (len(index.walks), index.model.parts, index.model.channels)
    if not index.walks:
        return np.empty(shape, np.float32)
    try:
        size = path.stat().st_size
        if size < len(index.walks) * index.row_bytes():
            raise DataError(
                f"{path}: is cut off: it has {size} bytes, but {len(index.walks)} walks take "
                f"{len(index.walks) * index.row_bytes()}; {REMEDY}"
            )
        return np.memmap(path, "<f4", "r", shape=shape)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; {REMEDY}") from None


def append_rows(folder: Path, index: Index, rows: np.ndarray) -> None:
    """Appends embeddings [n, parts, channels] to the array, and waits for the disk.

    Raises:
        UserError: if they cannot be written.
    """
    path = folder / index.data
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        with os.fdopen(descriptor, "r+b") as file:
            file.seek(len(index.walks) * index.row_bytes())
            file.write(np.ascontiguousarray(rows, "<f4").data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None


def keep_rows(folder: Path, index: Index, kept: Sequence[int]) -> Index:
    """Writes a gallery with only some of its walks, and removes the old array.

    Returns:
        The new content.

    Raises:
        UserError: if it cannot be written.
    """
    number = int(index.data.removeprefix("embeddings-").removesuffix(".f32")) + 1
    smaller = dataclasses.replace(
        index, data=f"embeddings-{number}.f32", walks=tuple(index.walks[i] for i in kept)
    )
    rows = np.ascontiguousarray(read_rows(folder, index)[list(kept)])
    write_atomically(folder / smaller.data, rows.tobytes())
    write_index(folder, smaller)
    for path in folder.glob("embeddings-*.f32"):
        # Also arrays of a writer that died halfway. Windows keeps mapped files, so the next call removes
        # those.
        if path.name != smaller.data and os.name != "nt":
            path.unlink(missing_ok=True)
    return smaller


def checksum(row: np.ndarray) -> int:
    """Returns the CRC-32 of an embedding."""
    return zlib.crc32(np.ascontiguousarray(row, "<f4").data)
