"""Reads safetensors files: a JSON header with the position of each tensor's bytes; they contain no code.

Written by hand, because the format is simple, and its package would be one more to install.

References:
    https://huggingface.co/docs/safetensors
"""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from mcl_jax.errors import CheckpointError

SUFFIX = ".safetensors"

DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
"""Name of a type in a header → NumPy type."""

METADATA = "__metadata__"
"""Key of the header with the writer's notes: name → text."""

LENGTH_BYTES = 8
"""A file starts with the length of its header, in this many bytes, little-endian."""

_MAX_HEADER = 2**24


def read_safetensors(path: Path | str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns the tensors of a file by name, and its writer's notes.

    Raises:
        CheckpointError: if there is no such file, or it is damaged. The message starts with the path.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from None
    try:
        return _parsed(content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CheckpointError(
            f"{path}: is not a safetensors file, or damaged; copy or download it again"
        ) from None


def _parsed(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    length = int.from_bytes(content[:LENGTH_BYTES], "little")
    if length > _MAX_HEADER:
        raise ValueError("header too long")
    body = memoryview(content)[LENGTH_BYTES + length :]
    header: dict[str, Any] = json.loads(content[LENGTH_BYTES : LENGTH_BYTES + length])
    metadata = dict(header.pop(METADATA, None) or {})
    if not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("notes are not text")
    tensors = {name: _tensor(entry, body) for name, entry in header.items()}
    spans = sorted(tuple(entry["data_offsets"]) for entry in header.values())
    if any(end > start for (_, end), (start, _) in itertools.pairwise(spans)):
        raise ValueError("tensors overlap")
    return tensors, metadata


def _tensor(entry: dict[str, Any], body: memoryview) -> np.ndarray:
    dtype, shape, (start, end) = DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
    if not all(type(n) is int and n >= 0 for n in (*shape, start, end)):
        raise ValueError("invalid shape")
    if end > len(body) or end - start != math.prod(shape) * dtype.itemsize:
        raise ValueError("tensor does not fit into the file")
    return np.frombuffer(body[start:end], dtype).reshape(shape)
