"""Packs a trained model into one small file: its arrays, and the model's name and sizes.

The file is an .npz without pickles. Kernels and matrices are in float16, which halves the file. Vectors,
mainly those of batch normalisation, stay in float32.
"""

import dataclasses
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from mcl_jax.errors import CheckpointError, DataError
from mcl_jax.models.registry import Weights, model_class
from mcl_jax.utils.digest import hash_arrays
from mcl_jax.utils.files import write_atomically
from mcl_jax.utils.npz import read_npz
from mcl_jax.utils.pytrees import ArrayTree, get_leaf, leaves_by_name, nested, with_leaf

SUFFIX = ".npz"
SHIPPED = Path(__file__).parent / "pocket.npz"
"""The model in the package."""

_ABOUT, _FORMAT = "about", 1
_TREES = ("params", "batch_stats")


def write_packed(path: Path, weights: Weights) -> None:
    """Writes a model without its classifier, which is useful only for the training people."""
    weights = _without_classifier(weights)
    arrays = {
        f"{tree}/{name}": _narrow(leaf)
        for tree, leaves in zip(_TREES, (weights.params, weights.batch_stats), strict=True)
        for name, leaf in leaves_by_name(leaves).items()
    }
    about: dict[str, Any] = {
        "format": _FORMAT,
        "block": weights.block,
        "step": weights.step,
        "thresholds": sorted(weights.thresholds.items()),
    }
    about["digest"] = _digest(about, arrays)
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    content = io.BytesIO()
    everything: dict[str, Any] = {_ABOUT: text, **arrays}
    np.savez_compressed(content, **everything)
    write_atomically(path, content.getvalue())


def read_packed(path: Path) -> Weights:
    """Returns the weights of such a file.

    Raises:
        CheckpointError: if it is missing, damaged, or not a packed model.
    """
    try:
        arrays = read_npz(path, None, remedy="write it with scripts/pack_model.py")
    except DataError as error:
        raise CheckpointError(str(error)) from None
    try:
        about = json.loads(arrays.pop(_ABOUT).tobytes())
        version, block, step = (about[key] for key in ("format", "block", "step"))
        digest = about.pop("digest")
        thresholds = {float(rate): float(distance) for rate, distance in about["thresholds"]}
        known = version == _FORMAT and isinstance(block, dict) and type(step) is int and "name" in block
        empty: dict[str, Any] = {tree: {} for tree in _TREES}
        trees = empty | nested({name: array.astype(np.float32) for name, array in arrays.items()})
    except (KeyError, TypeError, ValueError, RecursionError):
        known = False
    if not known:
        raise CheckpointError(f"{path}: is not a packed model: write one with scripts/pack_model.py")
    if _digest(about, arrays) != digest:
        raise CheckpointError(f"{path}: damaged: its content has changed since it was written")
    return Weights(block, trees["params"], trees["batch_stats"], step, str(path), thresholds=thresholds)


def _narrow(leaf: Any) -> np.ndarray:
    array = np.asarray(leaf)
    return array.astype(np.float16) if array.ndim > 1 else array.astype(np.float32)


def _digest(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    hash_arrays(digest, arrays)
    return digest.hexdigest()


def _without_classifier(weights: Weights) -> Weights:
    path = model_class(weights.block["name"]).CLASSIFIER
    if path is None:
        return weights
    shape: tuple[int, ...] = np.shape(get_leaf(weights.params, path))
    params: ArrayTree = with_leaf(weights.params, path, np.zeros((*shape[:-1], 1), np.float32))
    block = {**weights.block, "num_classes": 1}
    return dataclasses.replace(weights, block=block, params=params)
