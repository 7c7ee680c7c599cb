"""Where a training run starts from: its data, its model, and its first state."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from absl import logging
from ml_collections import ConfigDict

from mcl_jax.build import (
    Optimization,
    build_dataset,
    build_state,
    build_train_loader,
    trained_block,
)
from mcl_jax.config import model_block
from mcl_jax.data.datasets import OpenDataset
from mcl_jax.data.feed.loaders import TrainLoader
from mcl_jax.data.sequences import Split
from mcl_jax.errors import CheckpointError
from mcl_jax.models.registry import Model, Weights
from mcl_jax.runtime.mesh import data_mesh, replicated
from mcl_jax.runtime.settings import options_to_run_once
from mcl_jax.training.state import TrainState, start_average
from mcl_jax.utils.pytrees import all_finite
from mcl_jax.weights.load import fit, fit_partly, load_weights, run_of
from mcl_jax.workdir.checkpoints import Checkpoints, newest_block
from mcl_jax.workdir.history import RunHistory
from mcl_jax.workdir.trained_on import has_same_people


@dataclasses.dataclass(frozen=True)
class Data:
    """The data of a run: the dataset, its training split, and the loader of its batches."""

    dataset: OpenDataset
    loader: TrainLoader
    split: Split

    @property
    def subjects(self) -> int:
        """Number of people to train on."""
        return len(self.split.subjects)


def open_data(config: ConfigDict) -> Data:
    """Opens the data to train on, as the `data` block of a config names them.

    Raises:
        UserError: if the data cannot be used, or config and data do not fit.
    """
    dataset = build_dataset(config)
    split = dataset.train_split()
    logging.info(
        "training on %d sequences of %d subjects, %d devices",
        len(split.sequences),
        len(split.subjects),
        jax.device_count(),
    )
    return Data(dataset, build_train_loader(config, split), split)


@dataclasses.dataclass(frozen=True)
class Start:
    """The model that a run trains, and the weights it starts from.

    Attributes:
        block: the `model` block, with the sizes of the weights.
        weights: those of `init_from`; None for a run that resumes, or starts from initial parameters.
    """

    block: Mapping[str, Any]
    weights: Weights | None


def find_start(config: ConfigDict, workdir: Path) -> Start:
    """Finds out which model is trained: that of the run in workdir, of `init_from`, or of the config.

    Raises:
        CheckpointError: if that checkpoint is damaged, or of a model that the config contradicts.
    """
    stored = newest_block(workdir)
    if stored is not None:
        # A run that was started from weights has their sizes, whatever the config says.
        return Start(trained_block(config, stored, str(workdir), strict=not config.init_from), None)
    if config.init_from:
        weights = load_weights(config.init_from, model_block(config), partly=config.train.fit_partly)
        if config.train.fit_partly:
            return Start(model_block(config), weights)
        return Start(trained_block(config, weights.block, weights.source, strict=False), weights)
    return Start(model_block(config), None)


def begin(
    config: ConfigDict,
    model: Model,
    optimization: Optimization,
    weights: Weights | None,
    checkpoints: Checkpoints,
    history: RunHistory,
) -> TrainState:
    """Returns the state to train from, and records how the run goes on.

    Raises:
        CheckpointError: if a checkpoint is damaged or of another model.
        ConfigError: if config or data have changed, and that is not accepted.
    """
    accepted: list[str] = []
    newest, last = checkpoints.wait(), config.train.steps
    if newest is not None and newest < last:
        accepted = history.require_unchanged(newest, checkpoints.newest_trained_on())
    state = _first_state(config, model, optimization, weights, checkpoints, history.data.people)
    step = int(state.step)
    if newest is not None and step < last <= newest:  # the last step was damaged, and is trained again
        accepted = history.require_unchanged(step, checkpoints.newest_trained_on())
    if step < last:
        history.record(step, accepted)
    elif step > last:
        logging.warning("train.steps is %d, and step %d is done: nothing to train", last, step)
    return state


def _first_state(
    config: ConfigDict,
    model: Model,
    optimization: Optimization,
    weights: Weights | None,
    checkpoints: Checkpoints,
    people: tuple[str, ...],
) -> TrainState:
    """Returns the newest checkpoint, else the weights of `init_from`, else initial parameters.

    Raises:
        CheckpointError: if that checkpoint is damaged or of another model.
    """
    whole = replicated(data_mesh())
    arrays = model.initial_arrays(config.seed, options_to_run_once())
    state = jax.device_put(build_state(config, *arrays, optimization), whole)
    restored = checkpoints.restore(state)
    if restored is not None:
        logging.info("resuming after step %d", int(restored.step))
        return restored
    if weights is not None:
        if not all_finite((weights.params, weights.batch_stats)):
            raise CheckpointError(f"{weights.source}: holds numbers that are not finite; use another")
        keep = config.train.keep_classifier or has_same_people(run_of(config.init_from)[0], people)
        place = fit_partly if config.train.fit_partly else fit
        trained = place(weights, model, *arrays, keep_classifier=keep)
        params, batch_stats = jax.device_put(trained, whole)
        state = dataclasses.replace(state, params=params, batch_stats=batch_stats)
        return start_average(state) if config.train.ema else state
    if config.train.freeze_batch_norm:
        logging.warning(
            "train.freeze_batch_norm: without init_from the statistics are, and stay, means 0, variances 1"
        )
    return state
