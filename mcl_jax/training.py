"""Training, in order: data, model, optimiser, then step after step until the test at the end."""

import dataclasses
import math
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mcl_jax.build import (
    Optimization,
    build_dataset,
    build_embedder,
    build_optimization,
    build_train_loader,
    build_train_model,
    trained_block,
)
from mcl_jax.checkpoint import Checkpoints, newest_block
from mcl_jax.config import model_block, write_config
from mcl_jax.data.datasets import OpenDataset
from mcl_jax.data.feed.loaders import TrainLoader
from mcl_jax.data.feed.prefetch import prefetched
from mcl_jax.embed import Embedder
from mcl_jax.errors import UserError
from mcl_jax.evaluate import TEST_FOLDER, NotScoredError, evaluate
from mcl_jax.models.model import Model, Weights
from mcl_jax.progress import Progress
from mcl_jax.runtime import compiler_options
from mcl_jax.sharding import data_mesh, put_rows, replicated
from mcl_jax.train_state import TrainState, create_state
from mcl_jax.train_step import compile_train_step, make_train_step
from mcl_jax.weights import fit, load_weights

# Batches handed to the devices before the loop waits for the oldest.
_STEPS_IN_FLIGHT = 2


@dataclasses.dataclass(frozen=True)
class Data:
    """What a run trains on."""

    dataset: OpenDataset
    loader: TrainLoader
    subjects: int


@dataclasses.dataclass(frozen=True)
class Start:
    """What a run starts from: which model, and its arrays if there are any already.

    Attributes:
        block: the `model` block, with the sizes of the weights that are started from.
        weights: those of `init_from`; None for a run that resumes, or starts from initial parameters.
    """

    block: Mapping[str, Any]
    weights: Weights | None


def open_data(config: ConfigDict) -> Data:
    """Opens what the `data` block of a config names, to train on.

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
    return Data(dataset, build_train_loader(config, split), len(split.subjects))


def train(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Trains from the newest checkpoint in workdir, or from the start, then tests.

    Args:
        config: a valid config, see `mcl_jax.config.validate`.
        workdir: gets checkpoints/, tensorboard/ and test/.

    Returns:
        The metrics of the test at the end.

    Raises:
        UserError: for anything the user can mend: config, data, checkpoints, a loss that is not finite.
    """
    data = open_data(config)
    start = _find_start(config, workdir)
    model = build_train_model(config, start.block, data.subjects)
    embedder = build_embedder(config, model.block)
    optimization, mesh = build_optimization(config), data_mesh()
    update = make_train_step(model, optimization.optimizer, config.loss.to_dict())
    train_step = compile_train_step(update, mesh, compiler_options())

    write_config(config, workdir / "config_train.json")
    with Checkpoints(workdir, keep=config.train.keep) as checkpoints:
        state = _first_state(config, model, optimization, start.weights, checkpoints, mesh)
        first, steps = int(state.step), config.train.steps
        in_flight: deque[Any] = deque()
        with (
            prefetched(data.loader, range(first, steps), config.data.workers) as batches,
            Progress(
                workdir,
                start=first,
                steps=steps,
                log_every=config.train.log_every,
                sequences_per_step=math.prod(config.train.batch),
                schedule=optimization.schedule,
            ) as progress,
        ):
            for step in range(first + 1, steps + 1):
                state, metrics = train_step(state, put_rows(next(batches), mesh))
                in_flight.append(metrics)
                if len(in_flight) > _STEPS_IN_FLIGHT:
                    jax.block_until_ready(in_flight.popleft())

                reported = progress.update(step, metrics)
                save = step % config.train.save_every == 0 or step == steps
                if reported or save:
                    _require_finite(float(metrics["loss"]), step)
                if save:
                    checkpoints.save(state, model.block)
                if config.train.test_every and step % config.train.test_every == 0 and step < steps:
                    folder = workdir / f"{TEST_FOLDER}-{step}"
                    progress.scores(step, _test_meanwhile(config, folder, data.dataset, embedder, state))
    return evaluate(config, workdir / TEST_FOLDER, data.dataset, embedder, state.params, state.batch_stats)


def _find_start(config: ConfigDict, workdir: Path) -> Start:
    """Finds out which model is trained: that of the run in workdir, or of `init_from`, or of the config.

    Raises:
        CheckpointError: if that checkpoint is damaged, or of a model that the config contradicts.
    """
    stored = newest_block(workdir)
    if stored is not None:
        # A run that was started from weights has their sizes, whatever the config says.
        return Start(trained_block(config, stored, str(workdir), strict=not config.init_from), None)
    if config.init_from:
        weights = load_weights(config.init_from)
        return Start(trained_block(config, weights.block, weights.source, strict=False), weights)
    return Start(model_block(config), None)


def _first_state(
    config: ConfigDict,
    model: Model,
    optimization: Optimization,
    weights: Weights | None,
    checkpoints: Checkpoints,
    mesh: Mesh,
) -> TrainState:
    """Returns the state to go on from: the newest checkpoint, or the given weights, or initial parameters.

    Raises:
        CheckpointError: if that checkpoint is damaged or of another model.
    """
    arrays = model.initial_arrays(config.seed)
    state = jax.device_put(create_state(*arrays, optimization.optimizer), replicated(mesh))
    restored = checkpoints.restore(state)
    if restored is not None:
        logging.info("resuming after step %d", int(restored.step))
        return restored
    if weights is not None:
        params, batch_stats = jax.device_put(fit(weights, model, *arrays), replicated(mesh))
        state = dataclasses.replace(state, params=params, batch_stats=batch_stats)
    return state


def _test_meanwhile(
    config: ConfigDict, folder: Path, dataset: OpenDataset, embedder: Embedder, state: TrainState
) -> dict[str, Any]:
    """Returns the scores of a test during training, which goes on where nothing can be scored."""
    try:
        report = evaluate(config, folder, dataset, embedder, state.params, state.batch_stats)
    except NotScoredError as error:
        logging.warning("%s", error)
        return {}
    return report.get("scores", {})


def _require_finite(loss: float, step: int) -> None:
    """Stops a run that has diverged, before that is saved."""
    if not math.isfinite(loss):
        raise UserError(
            f"the loss is {loss} at step {step}; lower optimizer.lr, or set train.precision to float32, and "
            "start again from the last checkpoint"
        )
