"""Digests and metadata of a checkpoint's contents."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from mcl_jax.models.registry import PROVIDED, model_class, plain_block
from mcl_jax.training.state import TrainState
from mcl_jax.utils.pytrees import leaves_by_name
from mcl_jax.utils.signatures import config_arguments

FORMAT = 2
"""Number of the format, in the metadata of each checkpoint."""

BLOCK = "model"
"""Key of the `model` block in the metadata."""


def digests(state: TrainState) -> dict[str, str]:
    """Returns a digest of each part of a state on the host."""
    fields = [field.name for field in dataclasses.fields(state)]
    return {name: digest_of_arrays(getattr(state, name)) for name in fields}


def digest_of_arrays(tree: Any) -> str:
    """Returns the SHA-256 digest of a tree's names, types, shapes and numbers."""
    sha = hashlib.sha256()
    for path, leaf in sorted(leaves_by_name(tree).items()):
        array = np.ascontiguousarray(leaf)
        sha.update(f"{path} {array.dtype} {array.shape}\n".encode())
        sha.update(array.data)
    return sha.hexdigest()


def digest_of_block(block: Mapping[str, Any]) -> str:
    """Returns the SHA-256 digest of a `model` block."""
    return hashlib.sha256(json.dumps(plain_block(block), sort_keys=True).encode()).hexdigest()


def block_is_sound(custom: Mapping[str, Any]) -> bool:
    """Returns whether the `model` block has its digest; the first format had none."""
    return "format" not in custom or custom["digests"].get(BLOCK) == digest_of_block(custom[BLOCK])


def stored_block(custom: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the `model` block of a checkpoint; the first format held the keys of all models."""
    block = custom[BLOCK]
    if "format" in custom:
        return dict(block)
    known = config_arguments(model_class(block["name"]), PROVIDED)
    return {key: value for key, value in block.items() if key == "name" or key in known}


def with_integer_keys(tree: Any) -> Any:
    """Returns the tree with integers as the keys of module lists, which Orbax stores as text."""
    if not isinstance(tree, dict):
        return tree
    return {int(key) if key.isdigit() else key: with_integer_keys(value) for key, value in tree.items()}
