"""Weights to start from: the workdir of a run, or a PyTorch checkpoint of OpenGait."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from absl import logging

from mcl_jax.checkpoint import FOLDER, Checkpoints
from mcl_jax.convert.importer import export_state_dict, import_state_dict, load_checkpoint
from mcl_jax.convert.sizes import compare_sizes, read_sizes
from mcl_jax.errors import CheckpointError
from mcl_jax.train_state import Tree

StateDict = Mapping[str, np.ndarray]


class Fitted(TypedDict):
    """Arrays of the names and shapes that a model has."""

    params: Tree
    batch_stats: Tree


def load_state_dict(path: str, model: Mapping[str, Any]) -> StateDict:
    """Loads weights under OpenGait's names, which are the common ground of both kinds of checkpoint.

    Args:
        path: the workdir of a run, or a PyTorch file.
        model: the config's `model` block.

    Raises:
        CheckpointError: if there are none, they are damaged, or their sizes are not the config's.
    """
    if (Path(path) / FOLDER).is_dir():
        with Checkpoints(Path(path)) as checkpoints:
            weights = checkpoints.load_weights()
        name = weights.model["name"]
        state_dict: StateDict = export_state_dict(
            weights.params, weights.batch_stats, model=name, steps=weights.step
        )
        logging.info("weights of step %d from %s", weights.step, path)
    elif Path(path).is_file():
        state_dict = load_checkpoint(path).state_dict
        logging.info("weights from %s", path)
    else:
        raise CheckpointError(
            f"{path}: no such run or checkpoint file; train first, or set --config.init_from"
        )
    # The number of classes may differ: the classifier is then left out, see `fit`.
    expected = {key: value for key, value in model.items() if key != "num_classes"}
    differences = compare_sizes(read_sizes(state_dict), expected)
    if differences:
        raise CheckpointError(f"{path}: " + "; ".join(differences))
    return state_dict


def number_of_classes(state_dict: StateDict) -> int:
    """Returns how many classes the weights' classifier has, 0 if there is no classifier."""
    return read_sizes(state_dict).get("num_classes") or 0


def fit(state_dict: StateDict, model: str, params: Tree, batch_stats: Tree) -> Fitted:
    """Returns the weights in the place of a model's own.

    A classifier of another number of classes is left out, and the model keeps its own.

    Args:
        state_dict: weights under OpenGait's names.
        model: a key of `mcl_jax.models.MODELS`.
        params: initial parameters of the model.
        batch_stats: initial statistics of the model.

    Raises:
        CheckpointError: with a table of the names and shapes that differ.
    """
    imported = import_state_dict(state_dict, params, batch_stats, model=model, allow_new_classes=True)
    for name in imported.dropped:
        logging.warning("%s left out: its number of classes is not this model's", name)
    return {"params": imported.params, "batch_stats": imported.batch_stats}
