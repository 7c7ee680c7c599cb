"""Writes safetensors files; see `safetensors_reader` for why this is written by hand."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mcl_jax.convert.safetensors_reader import DTYPES, LENGTH_BYTES, METADATA
from mcl_jax.utils.files import write_atomically

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_ALIGNED = 8  # bytes; readers map the file into memory


def write_safetensors(
    path: Path | str, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Writes named tensors, completely or not at all; the same content gives the same bytes.

    Args:
        path: the file.
        tensors: name → array, of the types in `DTYPES`.
        metadata: notes for readers of the file.

    Raises:
        TypeError: if the format has no such type.
        UserError: if the file cannot be written.
    """
    header: dict[str, object] = {METADATA: dict(sorted(metadata.items()))}
    pieces: list[bytes] = []
    start = 0
    # Widest types first, so that all are aligned without gaps; the format forbids gaps.
    for name in sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name)):
        array = tensors[name]
        dtype = array.dtype.newbyteorder("<")
        if dtype not in _NAMES:
            raise TypeError(f"safetensors has no {array.dtype}")
        piece = np.ascontiguousarray(array).astype(dtype, copy=False).tobytes()
        header[name] = {
            "dtype": _NAMES[dtype],
            "shape": list(array.shape),
            "data_offsets": [start, start + len(piece)],
        }
        pieces.append(piece)
        start += len(piece)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNED)
    write_atomically(path, b"".join([len(text).to_bytes(LENGTH_BYTES, "little"), text, *pieces]))
