"""A model as one safetensors file: its arrays, and in notes which model it is, its step and its recipe."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from mcl_jax.convert.safetensors_reader import read_safetensors
from mcl_jax.convert.safetensors_writer import write_safetensors
from mcl_jax.errors import CheckpointError
from mcl_jax.models.registry import Weights, plain_block
from mcl_jax.utils.digest import DIGEST_KEY, canonical, hash_arrays
from mcl_jax.utils.pytrees import leaves_by_name, nested

FORMAT = "mcl_jax"
"""Note "format" of such a file; others have "pt", or none."""

_TREES = ("params", "batch_stats")
_DAMAGED = "is damaged: it does not hold what was written; copy or download it again"


def write_model(path: Path | str, weights: Weights) -> None:
    """Writes all that `read_model` gives back, with a digest.

    Raises:
        UserError: if it cannot be written.
    """
    arrays = {
        f"{tree}/{name}": np.asarray(leaf)
        for tree, leaves in zip(_TREES, (weights.params, weights.batch_stats), strict=True)
        for name, leaf in leaves_by_name(leaves).items()
    }
    notes = {
        "format": FORMAT,
        "model": _json(plain_block(weights.block)),
        "step": str(weights.step),
        "uncounted_batches": str(weights.uncounted_batches),
        "thresholds": _json(sorted(weights.thresholds.items())),
        "recipe": _json(dict(weights.recipe)),
    }
    write_safetensors(path, arrays, {**notes, DIGEST_KEY: _digest(notes, arrays)})


def read_model(path: Path | str) -> Weights | None:
    """Returns the weights of such a file; None for a safetensors file of another kind.

    Raises:
        CheckpointError: if it is missing or damaged. The message begins with the path.
    """
    arrays, notes = read_safetensors(path)
    if notes.get("format") != FORMAT:
        return None
    digest = notes.pop(DIGEST_KEY, "")
    if _digest(notes, arrays) != digest:
        raise CheckpointError(f"{path}: {_DAMAGED}")
    try:
        block, thresholds, recipe = (json.loads(notes[key]) for key in ("model", "thresholds", "recipe"))
        empty: dict[str, Any] = {tree: {} for tree in _TREES}
        trees = empty | nested(arrays)
        return Weights(
            {"name": str(block["name"]), **block},
            trees["params"],
            trees["batch_stats"],
            int(notes["step"]),
            str(path),
            int(notes["uncounted_batches"]),
            {float(rate): float(distance) for rate, distance in thresholds},
            dict(recipe),
        )
    except (KeyError, TypeError, ValueError, RecursionError):
        raise CheckpointError(f"{path}: is no model that this version reads; update mcl_jax") from None


def _json(value: Any) -> str:
    return canonical(value).decode()


def _digest(notes: dict[str, str], arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(canonical(notes))
    hash_arrays(digest, arrays)
    return digest.hexdigest()
