"""Reads files written by `torch.save`, without PyTorch and without executing any code from them.

The format since PyTorch 1.6 is a zip archive of uncompressed entries: `NAME/data.pkl`, a pickle of the saved
object, and `NAME/data/KEY`, the bytes of each storage. The older format is read with PyTorch, if installed.
Tensors become NumPy arrays, bfloat16 with `ml_dtypes`.
"""

import itertools
import math
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from mcl_jax.convert.torch_pickle import TensorSpec, load_pickle
from mcl_jax.errors import CheckpointError

STORAGE_DTYPES: dict[str, np.dtype] = {
    "torch.FloatStorage": np.dtype("<f4"),
    "torch.HalfStorage": np.dtype("<f2"),
    "torch.BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch.DoubleStorage": np.dtype("<f8"),
    "torch.LongStorage": np.dtype("<i8"),
    "torch.IntStorage": np.dtype("<i4"),
    "torch.ShortStorage": np.dtype("<i2"),
    "torch.CharStorage": np.dtype("i1"),
    "torch.ByteStorage": np.dtype("u1"),
    "torch.BoolStorage": np.dtype("?"),
}
"""PyTorch's name of a storage → type of its elements."""

_MAX_AXES = 64  # NumPy's own limit
_MAX_MESSAGE = 250
_MAX_VALUES, _MAX_DEPTH = 200_000, 50  # of a file in the older format
_ZIP_MAGIC = b"PK\x03\x04"
# A pickle of protocol 2 whose first value is the long integer 0x1950a86a20f9469cfc6c.
_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def read_torch_file(path: Path | str) -> Any:
    """Returns the object in a file written by `torch.save`.

    Args:
        path: the file.

    Returns:
        Plain values, dicts, lists and tuples, with a read-only NumPy array for every tensor.

    Raises:
        CheckpointError: if there is no such file, it is damaged, or has anything but tensors and plain data.
            The message is one line that starts with the path.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(len(_LEGACY_MAGIC))
        if head.startswith(_ZIP_MAGIC):
            return _read_zip(path)
        if head == _LEGACY_MAGIC:
            return _read_legacy(path)
        raise CheckpointError("is not a PyTorch checkpoint")
    except CheckpointError as error:
        # Shortened, because part of it may be text from the file.
        detail = " ".join(str(error).split())[:_MAX_MESSAGE]
        raise CheckpointError(f"{path}: {detail}") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error


def _read_zip(path: Path) -> Any:
    # Errors that zipfile raises for damaged directories, headers and checksums.
    damage = (
        zipfile.BadZipFile,
        EOFError,
        KeyError,
        NotImplementedError,
        OverflowError,
        RuntimeError,
        ValueError,
        struct.error,
    )
    try:
        with zipfile.ZipFile(path) as archive:
            return _Archive(archive, path.stat().st_size).load()
    except damage as error:
        raise CheckpointError(
            f"is damaged or incomplete; copy or download it again ({error or type(error).__name__})"
        ) from error


class _Archive:
    """The entries of one zip file, and the storages read so far."""

    def __init__(self, archive: zipfile.ZipFile, size: int):
        self.archive = archive
        self.entries = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in self.entries if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise CheckpointError("is a zip file, but not a PyTorch checkpoint (it has no data.pkl)")
        self.prefix = pickles[0].removesuffix("data.pkl")
        self.storages: dict[str, np.ndarray] = {}
        self._check_sizes(size)

    def load(self) -> Any:
        if self.prefix + "byteorder" in self.entries and self._read("byteorder") != b"little":
            raise CheckpointError("was written on a big-endian machine; save it again on a little-endian one")
        return load_pickle(
            self._read("data.pkl"),
            storage_types=frozenset(STORAGE_DTYPES),
            make_tensor=self._tensor,
        )

    def _check_sizes(self, size: int) -> None:
        # Checked before reading, because a compressed entry could fill any amount of memory.
        if any(info.compress_type != zipfile.ZIP_STORED for info in self.entries.values()):
            raise CheckpointError("has compressed entries, which PyTorch does not write")
        if sum(max(info.file_size, info.compress_size) for info in self.entries.values()) > size:
            raise CheckpointError("is damaged (its entries claim more bytes than it has)")

    def _read(self, name: str) -> bytes:
        """Returns the bytes of an entry; zipfile checks the CRC."""
        if self.prefix + name not in self.entries:
            raise CheckpointError(f"is damaged (entry {name} is missing)")
        return self.archive.read(self.entries[self.prefix + name])

    def _storage(self, persistent_id: Any) -> tuple[np.ndarray, np.dtype, int]:
        """Returns the bytes of a storage, and the type and number of its elements."""
        _, storage_type, key, _, count = persistent_id
        if type(key) is not str or type(count) is not int or count < 0:
            raise TypeError("not a storage")
        if key not in self.storages:
            self.storages[key] = np.frombuffer(self._read(f"data/{key}"), np.uint8)
        data, dtype = self.storages[key], STORAGE_DTYPES[storage_type]
        if count * dtype.itemsize > data.size:
            raise CheckpointError(
                f"is damaged (storage {key} claims {count * dtype.itemsize} bytes, but has {data.size})"
            )
        return data, dtype, count

    def _tensor(self, spec: TensorSpec) -> np.ndarray:
        data, dtype, count = self._storage(spec.storage)
        shape, strides, offset = spec.shape, spec.strides, spec.offset
        if not len(shape) == len(strides) <= _MAX_AXES or any(
            type(n) is not int or n < 0 for n in (*shape, *strides, offset)
        ):
            raise TypeError("not a shape")
        elements = math.prod(shape)
        if not elements:
            return np.empty(shape, dtype)
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
        # The second condition, because with strides of zero one element could claim any shape.
        if last >= count or elements > count:
            raise CheckpointError(
                f"is damaged (a tensor of shape {shape} claims {elements * dtype.itemsize} bytes, but its "
                f"storage has {count * dtype.itemsize})"
            )
        size = dtype.itemsize
        return np.ndarray(shape, dtype, data.data, offset * size, [n * size for n in strides])


def _read_legacy(path: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise CheckpointError(
            "is in PyTorch's format before 1.6, which only PyTorch can read: install it, or save the file "
            "again with a newer PyTorch"
        ) from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    # Damaged files raise many kinds of exceptions, and torch.load does not document them.
    except Exception as error:
        detail = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"PyTorch cannot load it ({detail})") from error
    return _to_numpy(content, itertools.count())


def _to_numpy(value: Any, visited: Iterator[int], depth: int = 0) -> Any:
    """Replaces the tensors of nested containers by arrays."""
    if next(visited) > _MAX_VALUES or depth > _MAX_DEPTH:
        raise CheckpointError(
            f"has more than {_MAX_VALUES:,} values, or is nested more than {_MAX_DEPTH} levels deep"
        )
    if isinstance(value, dict):
        return {key: _to_numpy(item, visited, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_to_numpy(item, visited, depth + 1) for item in value)
    if not hasattr(value, "detach"):
        return value
    import torch

    tensor = value.detach()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()
