"""Reads a pickled NumPy array without executing anything that is in the file."""

import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np


class NotAnArrayError(Exception):
    """The pickle is damaged, or more than a NumPy array."""


class _PickledArray:
    """An inert stand-in for a pickled array: it only keeps what NumPy would have been called with."""

    def __init__(self) -> None:
        self.array: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        try:
            _, shape, dtype, fortran, content = state
        except (TypeError, ValueError):
            raise NotAnArrayError("not a pickled NumPy array") from None
        self.array = _build_array(content, dtype, shape, "F" if fortran else "C")


class _PickledDtype:
    """An inert stand-in for a pickled dtype: the type code, and the byte order NumPy sets afterwards."""

    def __init__(self, code: Any, *_: Any):
        if not isinstance(code, str) or len(code) > 8:
            raise NotAnArrayError("not a pickled NumPy array of numbers")
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
            raise NotAnArrayError("not a pickled NumPy array of numbers") from None
        plain = resolved.kind in "biuf" and isinstance(content, bytes | bytearray)
        sized = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
        if plain and sized and len(content) == math.prod(shape) * resolved.itemsize:
            return np.frombuffer(content, resolved).reshape(shape, order="F" if order == "F" else "C")
    raise NotAnArrayError("not a pickled NumPy array of numbers, or its size and content disagree")


def _reconstruct(*_: Any) -> _PickledArray:
    return _PickledArray()


def _from_buffer(*args: Any) -> np.ndarray:
    if len(args) != 4:
        raise NotAnArrayError("not a pickled NumPy array")
    content, dtype, shape, order = args
    return _build_array(content, dtype, shape, order)


def _latin1_bytes(*args: Any) -> bytes:
    # How pickle protocol 2 writes bytes.
    if len(args) == 2 and isinstance(args[0], str) and args[1] == "latin1":
        return args[0].encode("latin1")
    raise NotAnArrayError("not a pickled NumPy array")


_STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _PickledArray,
    ("numpy", "dtype"): _PickledDtype,
    ("_codecs", "encode"): _latin1_bytes,
}
for _package in ("numpy.core", "numpy._core"):  # before and since NumPy 2
    _STAND_INS[f"{_package}.multiarray", "_reconstruct"] = _reconstruct
    _STAND_INS[f"{_package}.numeric", "_frombuffer"] = _from_buffer


class ArrayUnpickler(pickle.Unpickler):
    """Resolves the few names an array's pickle holds to stand-ins of ours, and refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns the stand-in for a global of the pickle."""
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise NotAnArrayError(
                f"holds {module}.{name}, which is not part of a NumPy array; refused, nothing was executed"
            ) from None

    def load_array(self) -> np.ndarray:
        """Returns the array of the file, or raises NotAnArrayError."""
        try:
            loaded = self.load()
        except NotAnArrayError:
            raise
        except Exception as error:  # a damaged pickle raises nearly anything
            raise NotAnArrayError(f"truncated or damaged pickle ({type(error).__name__})") from None
        array = loaded.array if isinstance(loaded, _PickledArray) else loaded
        if not isinstance(array, np.ndarray):
            raise NotAnArrayError(f"holds a {type(loaded).__name__}, not a NumPy array")
        return array
