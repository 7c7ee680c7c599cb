"""Weights as two small files: an .npz of float16 arrays, and a JSON that says which model, and the digest."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from mcl_jax.errors import CheckpointError
from mcl_jax.files import write_atomically
from mcl_jax.trees import ArrayTree

FOLDER = Path(__file__).resolve().parent
WEIGHTS, METADATA = "weights.npz", "metadata.json"
PARTS = ("params", "batch_stats")


def load_weights(folder: Path = FOLDER) -> tuple[dict[str, Any], ArrayTree, ArrayTree]:
    """Returns the metadata, the parameters and the running statistics, float32.

    The metadata has the keys `model` (its name and constructor's arguments), `step`, `sha256` of the arrays'
    file, and `config` of the training.

    Args:
        folder: of both files; those of the package if none is given.

    Raises:
        CheckpointError: if a file is missing or not what has been stored.
    """
    try:
        metadata = json.loads((folder / METADATA).read_bytes())
        content = (folder / WEIGHTS).read_bytes()
        expected = metadata["sha256"]
    except OSError as error:
        raise CheckpointError(f"{error.filename}: cannot be read: {error.strerror}; install again") from None
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"{folder / METADATA}: damaged; install again") from None
    if hashlib.sha256(content).hexdigest() != expected:
        raise CheckpointError(f"{folder / WEIGHTS}: not the file that {METADATA} names; install again")
    trees: dict[Any, Any] = {part: {} for part in PARTS}
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        for name in arrays.files:
            *path, leaf = (int(key) if key.isdigit() else key for key in name.split("/"))
            place: Any = trees
            for key in path:
                place = place.setdefault(key, {})
            place[leaf] = arrays[name].astype(np.float32)
    return metadata, trees["params"], trees["batch_stats"]


def save_weights(
    folder: Path,
    model: dict[str, Any],
    params: ArrayTree,
    batch_stats: ArrayTree,
    *,
    step: int,
    config: dict[str, Any],
) -> None:
    """Writes what `load_weights` reads; the same weights give the same bytes.

    Args:
        folder: where to.
        model: the `model` block.
        params: parameters, NumPy.
        batch_stats: running statistics, NumPy.
        step: updates behind them.
        config: of the training, for the record.
    """
    arrays: dict[str, np.ndarray] = {}
    for part, tree in zip(PARTS, (params, batch_stats), strict=True):
        _flatten(part, tree, arrays)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    metadata = {"model": model, "step": step, "sha256": digest, "config": config}
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / WEIGHTS, buffer.getvalue())
    write_atomically(folder / METADATA, json.dumps(metadata, indent=1).encode())


def _flatten(path: str, tree: Any, into: dict[str, np.ndarray]) -> None:
    if isinstance(tree, dict):
        for key in sorted(tree, key=str):
            _flatten(f"{path}/{key}", tree[key], into)
    else:
        # Running statistics may lie outside float16's range, and are few.
        kept = np.float16 if path.startswith("params/") else np.float32
        into[path] = np.asarray(tree).astype(kept)
