"""Writes files for `torch.load(..., weights_only=True)`, without needing PyTorch."""

import io
import struct
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from mcl_jax.convert.torch_reader import STORAGE_DTYPES
from mcl_jax.utils.files import write_atomically

_STORAGE_NAMES = {dtype: name for name, dtype in STORAGE_DTYPES.items()}
# The zip format's oldest date, so that the same content gives the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)


def write_torch_file(path: Path | str, content: Any) -> None:
    """Writes a file from which PyTorch reads `content`, with a tensor for every array.

    Args:
        path: the file; replaced as a whole if it exists.
        content: dicts, ordered dicts, counters, lists and tuples of str, int, float, bool, None and NumPy
            arrays.

    Raises:
        TypeError: if the content has anything else.
        UserError: if the file cannot be written.
    """
    pickler = _Pickler()
    program = pickler.dump(content)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:

        def add(name: str, data: bytes) -> None:
            archive.writestr(zipfile.ZipInfo(f"archive/{name}", _DATE), data)

        add("data.pkl", program)
        add("byteorder", b"little")
        for key, array in enumerate(pickler.storages):
            add(f"data/{key}", array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
        add("version", b"3\n")
    write_atomically(Path(path), file.getvalue())


class _Pickler:
    """Writes a pickle of protocol 2 and collects the arrays it refers to.

    Written by hand, because Python's pickler can only write names it can import, and these are PyTorch's.
    """

    def __init__(self) -> None:
        self.storages: list[np.ndarray] = []

    def dump(self, value: Any) -> bytes:
        return b"\x80\x02" + self._value(value) + b"."

    def _value(self, value: Any) -> bytes:
        match value:
            case None:
                return b"N"
            case bool():
                return b"\x88" if value else b"\x89"
            case int():
                return self._int(value)
            case float():
                return b"G" + struct.pack(">d", value)
            case str():
                text = value.encode()
                return b"X" + struct.pack("<I", len(text)) + text
            case np.ndarray():
                return self._tensor(value)
            case OrderedDict():
                return self._call("collections", "OrderedDict") + self._items(value)
            case Counter():
                return self._call("collections", "Counter", dict(value))
            case dict():
                return b"}" + self._items(value)
            case list():
                return b"](" + b"".join(map(self._value, value)) + b"e"
            case tuple():
                return b"(" + b"".join(map(self._value, value)) + b"t"
        raise TypeError(f"cannot write a {type(value).__name__} for PyTorch")

    def _int(self, value: int) -> bytes:
        if -(2**31) <= value < 2**31:
            return b"J" + struct.pack("<i", value)
        data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + struct.pack("<B", len(data)) + data

    def _items(self, value: dict[Any, Any]) -> bytes:
        return b"(" + b"".join(self._value(part) for pair in value.items() for part in pair) + b"u"

    def _name(self, module: str, name: str) -> bytes:
        return f"c{module}\n{name}\n".encode()

    def _call(self, module: str, name: str, *arguments: Any) -> bytes:
        return self._name(module, name) + self._value(arguments) + b"R"

    def _tensor(self, array: np.ndarray) -> bytes:
        if array.dtype not in _STORAGE_NAMES:
            raise TypeError(f"cannot write an array of {array.dtype} for PyTorch")
        storage_type = self._name(*_STORAGE_NAMES[array.dtype].split("."))
        key = self._value(str(len(self.storages)))
        self.storages.append(array)
        storage = b"(" + self._value("storage") + storage_type + key + self._value("cpu")
        storage += self._value(array.size) + b"tQ"
        strides = tuple(int(np.prod(array.shape[axis + 1 :])) for axis in range(array.ndim))
        arguments = storage + self._value(0) + self._value(array.shape) + self._value(strides)
        hooks = self._call("collections", "OrderedDict")
        return self._name("torch._utils", "_rebuild_tensor_v2") + b"(" + arguments + b"\x89" + hooks + b"tR"
