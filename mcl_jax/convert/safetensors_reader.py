"""Reads a safetensors file: a JSON header that says where each tensor's bytes are. Nothing in it can run.

By hand, because the format is a page long and the package that reads it would be one more to install.

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
"""Name of a type in a header → type of the numbers."""

METADATA = "__metadata__"
"""Key of a header that holds notes of the writer, texts by names."""

LENGTH_BYTES = 8
"""A file begins with the length of its header, in so many bytes, the lowest first."""

_LONGEST_HEADER = 2**24


def read_safetensors(path: Path | str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns the tensors of a file by their names, and what its writer noted.

    Raises:
        CheckpointError: there is no such file, or it is damaged. The message begins with the path.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from None
    try:
        return _parsed(content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CheckpointError(
            f"{path}: is no safetensors file, or damaged; copy or download it again"
        ) from None


def _parsed(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    length = int.from_bytes(content[:LENGTH_BYTES], "little")
    if length > _LONGEST_HEADER:
        raise ValueError("a header longer than any")
    body = memoryview(content)[LENGTH_BYTES + length :]
    header: dict[str, Any] = json.loads(content[LENGTH_BYTES : LENGTH_BYTES + length])
    metadata = dict(header.pop(METADATA, None) or {})
    if not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("notes that are no text")
    tensors = {name: _tensor(entry, body) for name, entry in header.items()}
    spans = sorted(tuple(entry["data_offsets"]) for entry in header.values())
    if any(end > start for (_, end), (start, _) in itertools.pairwise(spans)):
        raise ValueError("tensors that overlap")
    return tensors, metadata


def _tensor(entry: dict[str, Any], body: memoryview) -> np.ndarray:
    dtype, shape, (start, end) = DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
    if not all(type(n) is int and n >= 0 for n in (*shape, start, end)):
        raise ValueError("no shape")
    if end > len(body) or end - start != math.prod(shape) * dtype.itemsize:
        raise ValueError("a tensor beyond the file")
    return np.frombuffer(body[start:end], dtype).reshape(shape)
