"""Reads the pickle inside a PyTorch checkpoint, which may hold a few names only."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcl_jax.errors import CheckpointError
from mcl_jax.utils import safe_pickle
from mcl_jax.utils.safe_pickle import DamagedPickleError, Name, RefusedPickleError, Vocabulary


@dataclass(frozen=True)
class TensorSpec:
    """A tensor as the pickle describes it, nothing of which has been checked.

    Attributes:
        storage: the persistent id of the storage that holds the values.
        offset: first element.
        shape: claimed size of each axis.
        strides: elements to step along each axis.
    """

    storage: Any
    offset: Any
    shape: Any
    strides: Any


_PAIRS = ("collections.OrderedDict", "collections.Counter")
_TENSORS = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor")
_PARAMETER = "torch._utils._rebuild_parameter"
_SCALARS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")  # before and since NumPy 2
_NUMBERS = {np.dtype(code).str[1:] for code in "?" + np.typecodes["AllInteger"] + np.typecodes["Float"]}
_LONGEST_NUMBER = 16  # bytes


def load_pickle(
    data: bytes, *, storage_types: frozenset[str], make_tensor: Callable[[TensorSpec], Any]
) -> Any:
    """Reads a pickle of plain values, dicts, lists, tuples and tensors.

    Args:
        data: the pickle, protocols 0 to 5.
        storage_types: names like "torch.FloatStorage" that a persistent id may contain; they are returned
            as text.
        make_tensor: builds what stands for a tensor.

    Returns:
        The unpickled value; ordered dicts and counters become dicts.

    Raises:
        CheckpointError: the pickle is damaged or wants anything that is not on the allow-list.
    """
    vocabulary = Vocabulary(
        names={
            **dict.fromkeys(storage_types),
            **dict.fromkeys(_PAIRS, _as_dict),
            **dict.fromkeys(_TENSORS, lambda *arguments: make_tensor(TensorSpec(*arguments[:4]))),
            _PARAMETER: lambda tensor, *_: tensor,
            # What others keep beside the weights: settings, of which nothing is used, and counters.
            "argparse.Namespace": lambda *_: {},
            "numpy.dtype": _number_type,
            **dict.fromkeys(_SCALARS, _number),
            "_codecs.encode": _latin1_bytes,
        },
        # Attributes (PyTorch hangs `_metadata` on its dicts) are dropped.
        build=lambda value, _: value,
        persistent=_as_storage,
    )
    try:
        return safe_pickle.load(data, vocabulary)
    except DamagedPickleError as error:
        raise CheckpointError(f"its pickle is damaged ({error})") from error
    except RefusedPickleError as error:
        raise CheckpointError(
            f"its pickle has {error}, which is not plain data; refused, nothing was run"
        ) from error


def _as_dict(content: Any = None) -> dict[Any, Any]:
    # The content itself where there is one: copies of one large dict could fill the memory.
    if content is None:
        return {}
    if type(content) is not dict:
        raise TypeError("no dict")
    return content


def _number_type(code: Any, *_: Any) -> np.dtype:
    if code not in _NUMBERS:
        raise TypeError("no type of numbers")
    return np.dtype(code)


def _number(dtype: Any, content: Any = b"") -> int | float | bool:
    if type(content) is not bytes or not isinstance(dtype, np.dtype) or len(content) != dtype.itemsize:
        raise TypeError("no number")
    value: int | float | bool = np.frombuffer(content, dtype)[0].item()
    return value


def _latin1_bytes(text: Any, encoding: Any) -> bytes:
    """Returns the bytes of a number, which pickle writes as Latin-1 text up to protocol 2."""
    if type(text) is not str or encoding != "latin1" or len(text) > _LONGEST_NUMBER:
        raise TypeError("no bytes of a number")
    return text.encode("latin1")


def _as_storage(value: Any) -> tuple[Any, ...]:
    # ("storage", type, key, location, elements): the type becomes text, so that names stay in here.
    kind, storage_type, *rest = value
    if kind != "storage" or type(storage_type) is not Name or len(rest) != 3:
        raise TypeError("no storage")
    return (kind, storage_type.text, *rest)
