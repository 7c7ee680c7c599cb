"""Reads the pickle inside a PyTorch checkpoint; only names on an allow-list may occur in it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcl_jax.errors import CheckpointError
from mcl_jax.utils import safe_pickle
from mcl_jax.utils.safe_pickle import DamagedPickleError, Name, RefusedPickleError, Vocabulary


@dataclass(frozen=True)
class TensorSpec:
    """A tensor as described in the pickle; nothing is checked yet.

    Attributes:
        storage: persistent id of the storage with the values.
        offset: position of the first element.
        shape: size of each axis.
        strides: number of elements between neighbours along each axis.
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
_MAX_NUMBER_BYTES = 16


def load_pickle(
    data: bytes, *, storage_types: frozenset[str], make_tensor: Callable[[TensorSpec], Any]
) -> Any:
    """Reads a pickle of plain values, dicts, lists, tuples and tensors.

    Args:
        data: the pickle, protocols 0 to 5.
        storage_types: allowed names in a persistent id, such as "torch.FloatStorage"; they are returned as
            text.
        make_tensor: makes the value that replaces a tensor.

    Returns:
        The unpickled value; ordered dicts and counters become dicts.

    Raises:
        CheckpointError: if the pickle is damaged, or has a name that is not on the allow-list.
    """
    vocabulary = Vocabulary(
        names={
            **dict.fromkeys(storage_types),
            **dict.fromkeys(_PAIRS, _as_dict),
            **dict.fromkeys(_TENSORS, lambda *arguments: make_tensor(TensorSpec(*arguments[:4]))),
            _PARAMETER: lambda tensor, *_: tensor,
            # Other programs store settings (ignored) and counters beside the weights.
            "argparse.Namespace": lambda *_: {},
            "numpy.dtype": _number_type,
            **dict.fromkeys(_SCALARS, _number),
            "_codecs.encode": _latin1_bytes,
        },
        # Attributes are dropped (PyTorch adds `_metadata` to its dicts).
        build=lambda value, _: value,
        persistent=_as_storage,
    )
    try:
        return safe_pickle.load(data, vocabulary)
    except DamagedPickleError as error:
        raise CheckpointError(f"its pickle is damaged ({error})") from error
    except RefusedPickleError as error:
        raise CheckpointError(
            f"its pickle has {error}, which is not plain data; refused without executing anything"
        ) from error


def _as_dict(content: Any = None) -> dict[Any, Any]:
    # Not copied, because many copies of one large dict could fill the memory.
    if content is None:
        return {}
    if type(content) is not dict:
        raise TypeError("not a dict")
    return content


def _number_type(code: Any, *_: Any) -> np.dtype:
    if code not in _NUMBERS:
        raise TypeError("not a type of numbers")
    return np.dtype(code)


def _number(dtype: Any, content: Any = b"") -> int | float | bool:
    if type(content) is not bytes or not isinstance(dtype, np.dtype) or len(content) != dtype.itemsize:
        raise TypeError("not a number")
    value: int | float | bool = np.frombuffer(content, dtype)[0].item()
    return value


def _latin1_bytes(text: Any, encoding: Any) -> bytes:
    """Returns the bytes of a number, which pickle writes as Latin-1 text up to protocol 2."""
    if type(text) is not str or encoding != "latin1" or len(text) > _MAX_NUMBER_BYTES:
        raise TypeError("not the bytes of a number")
    return text.encode("latin1")


def _as_storage(value: Any) -> tuple[Any, ...]:
    # ("storage", type, key, location, elements); the type becomes text, so that no Name leaves this module.
    kind, storage_type, *rest = value
    if kind != "storage" or type(storage_type) is not Name or len(rest) != 3:
        raise TypeError("not a storage")
    return (kind, storage_type.text, *rest)
