"""Reads .npz and .npy files after checking their sizes.

`numpy.load` trusts every size in the file. It tries to reserve 10 TB for an array that claims 10 TB, and a
few megabytes can unpack to thousands of times as much.
"""

import math
import zipfile
from collections.abc import Collection
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import IO

import numpy as np

from mcl_jax.errors import DataError

MAX_GROWTH, MIN_ALLOWANCE = 16, 2**26
"""Arrays may unpack to 16 times the bytes of the file and another 64 MiB."""

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class _BadEntryError(Exception):
    """An entry is not an array of plain values; the message becomes part of a line."""


def read_npz(path: Path, keys: Collection[str] | None, *, remedy: str) -> dict[str, np.ndarray]:
    """Returns the named arrays of an .npz file, and empty arrays under all other names in it.

    Args:
        path: the file.
        keys: the names to read; None for all.
        remedy: how to make a sound file, for messages.

    Raises:
        DataError: it is missing or damaged, holds objects, or claims impossible sizes.
    """
    try:
        limit = MAX_GROWTH * path.stat().st_size + MIN_ALLOWANCE
    except FileNotFoundError:
        raise DataError(f"{path}: no such file: {remedy} or give another path") from None
    except OSError as error:
        raise DataError(f"{path}: not a readable .npz file ({error.strerror}): {remedy}") from None
    return read_npz_file(path, str(path), keys, limit=limit, remedy=remedy)


def read_npz_file(
    file: Path | IO[bytes], path: str, keys: Collection[str] | None, *, limit: int, remedy: str
) -> dict[str, np.ndarray]:
    """Does the same as `read_npz` for a file that may be open, or in memory.

    Args:
        file: the file.
        path: its name, for messages.
        keys: the names to read; None for all.
        limit: how many bytes the arrays may unpack to.
        remedy: how to make a sound file, for messages.

    Raises:
        DataError: as of `read_npz`.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            wanted = {name: info for name, info in entries.items() if keys is None or name in keys}
            total = sum(info.file_size for info in wanted.values())
            if total > limit:
                raise DataError(
                    f"{path}: claims to unpack to {total} bytes, but its size allows {limit}: {remedy}"
                )
            # Other methods unpack without a limit, or reserve any size that the file claims.
            if {info.compress_type for info in wanted.values()} - {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise DataError(f"{path}: compressed in a way that NumPy does not use: {remedy}")
            arrays = {name: np.empty(0) for name in entries}
            for name, info in wanted.items():
                with archive.open(info) as entry:
                    arrays[name] = _read_array(entry, name, info.file_size)
            return arrays
    except _BadEntryError as error:
        raise DataError(f"{path}: {error}: {remedy}") from None
    except DataError:
        raise
    except Exception as error:  # zipfile, zlib and lzma raise many kinds of errors on a damaged file
        detail = " ".join(str(error).split())[:100] or type(error).__name__
        raise DataError(f"{path}: not a readable .npz file ({detail}): {remedy}") from None


def read_npy(content: bytes, name: str, *, remedy: str) -> np.ndarray:
    """Returns the array of an .npy file, a view of its content.

    Args:
        content: the file.
        name: for messages.
        remedy: how to make a sound file, for messages.

    Raises:
        DataError: it is damaged, holds objects, or its shape does not fit its bytes.
    """
    try:
        return _read_array(BytesIO(content), "it", len(content))
    except _BadEntryError as error:
        raise DataError(f"{name}: {error}: {remedy}") from None


def _read_array(entry: BufferedIOBase | IO[bytes], name: str, size: int) -> np.ndarray:
    try:
        shape, fortran, dtype = _HEADERS[np.lib.format.read_magic(entry)](entry)
    except Exception as error:  # NumPy's header parser raises many kinds of errors
        raise _BadEntryError(f"{name} is not an array") from error
    if dtype.hasobject:
        raise _BadEntryError(f"{name} holds pickled objects, which are never loaded")
    claimed, present = math.prod(shape) * dtype.itemsize, size - entry.tell()
    if any(n < 0 for n in shape) or not dtype.itemsize or claimed != present:
        raise _BadEntryError(
            f"{name} is damaged: its shape {shape!s:.50} needs {claimed!s:.20} bytes, but it has {present}"
        )
    if not claimed:
        return np.empty(shape, dtype)
    # zipfile checks the CRC only after the entry has been read to its end.
    content = entry.read()
    if len(content) != present:
        raise _BadEntryError(f"{name} is damaged: {len(content)} of {present} bytes")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
