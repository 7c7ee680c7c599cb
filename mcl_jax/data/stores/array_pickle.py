"""Reads a pickled NumPy array without executing any code from the file."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mcl_jax.data.stores.silhouette_pickle import read_silhouettes
from mcl_jax.utils import safe_pickle
from mcl_jax.utils.safe_pickle import DamagedPickleError, Name, RefusedPickleError, Vocabulary

MAX_PICKLE_BYTES = 2**28
"""Larger files are refused. This is 65,536 frames of 64×64, or 44 minutes at 25 frames a second."""

# How NumPy spells the types of real numbers in a pickle: "u1", "f4", …
_CODES = {np.dtype(code).str[1:] for code in "?" + np.typecodes["AllInteger"] + np.typecodes["Float"]}


class NotAnArrayError(Exception):
    """The pickle is damaged, or holds something other than a NumPy array."""


def read_array(data: bytes) -> np.ndarray:
    """Returns the array of real numbers in a pickle.

    Args:
        data: a pickle of protocol 0 to 5, written by any NumPy. Silhouettes are returned as a view of it.

    Raises:
        NotAnArrayError: if it is damaged, or holds anything else.
    """
    silhouettes = read_silhouettes(data)
    if silhouettes is not None:
        return silhouettes
    try:
        value = safe_pickle.load(data, Vocabulary(_names(len(data)), _set_state))
    except DamagedPickleError as error:
        raise NotAnArrayError(f"truncated or damaged pickle ({error})") from None
    except RefusedPickleError as error:
        raise NotAnArrayError(
            f"holds {error}, which is not part of a NumPy array; refused without executing anything"
        ) from None
    if not isinstance(value, np.ndarray):
        raise NotAnArrayError(f"holds a {type(value).__name__}, not a NumPy array")
    return value


class _Array:
    """Stands for an array whose state has not been read yet."""


class _Dtype:
    """Stands for a dtype: its code, and the byte order, which its state sets later."""

    def __init__(self, code: str):
        self.code, self.order = code, "|"


def _names(size: int) -> dict[str, Callable[..., Any] | None]:
    """Returns a harmless function for each name allowed in an array's pickle of `size` bytes."""
    left = size

    def latin1_bytes(text: Any, encoding: Any) -> bytes:
        """Returns bytes that protocols up to 2 write as text; in total no more than the pickle holds."""
        nonlocal left
        if type(text) is not str or encoding != "latin1":
            raise TypeError("not bytes")
        left -= len(text)
        if left < 0:
            raise ValueError("the bytes of a text are used more than once")
        return text.encode("latin1")

    names: dict[str, Callable[..., Any] | None] = {
        "numpy.ndarray": None,
        "numpy.dtype": _dtype,
        "_codecs.encode": latin1_bytes,
    }
    for package in ("numpy.core", "numpy._core"):  # before and since NumPy 2
        names[f"{package}.multiarray._reconstruct"] = _reconstruct
        names[f"{package}.numeric._frombuffer"] = _from_buffer
    return names


def _reconstruct(kind: Any, *_: Any) -> _Array:
    if kind != Name("numpy.ndarray"):
        raise NotAnArrayError("not a pickled NumPy array")
    return _Array()


def _dtype(code: Any, *_: Any) -> _Dtype:
    if type(code) is not str:
        raise NotAnArrayError("not a pickled NumPy array of numbers")
    return _Dtype(code)


def _set_state(target: Any, state: Any) -> Any:
    """Applies the state of an array or of a dtype."""
    if type(state) is not tuple or len(state) < 2:
        raise NotAnArrayError("not a pickled NumPy array")
    if type(target) is _Array:
        _, shape, dtype, fortran, content = state
        return _build(content, dtype, shape, "F" if fortran else "C")
    if type(target) is _Dtype and state[1] in ("<", ">"):
        target.order = state[1]
    return target


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    return _build(content, dtype, shape, order)


def _build(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    plain = type(dtype) is _Dtype and dtype.code in _CODES and type(content) in (bytes, bytearray)
    sized = type(shape) is tuple and all(type(n) is int and n >= 0 for n in shape)
    if plain and sized:
        resolved = np.dtype(dtype.order + dtype.code)
        if len(content) == math.prod(shape) * resolved.itemsize:
            return np.frombuffer(content, resolved).reshape(shape, order="F" if order == "F" else "C")
    raise NotAnArrayError("not a pickled NumPy array of numbers, or its size and content disagree")
