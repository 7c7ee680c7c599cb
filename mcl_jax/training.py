"""Training, in order: data, model, optimiser, then step after step until the test at the end."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
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
from mcl_jax.errors import CheckpointError
from mcl_jax.evaluate import TEST_FOLDER, NotScoredError, evaluate
from mcl_jax.guards import (
    InFlight,
    NonFiniteError,
    allowed_in_a_row,
    compile_guarded,
    guarded,
    start_counter,
    stop,
)
from mcl_jax.leaving import Leaving, LeavingError
from mcl_jax.models.model import Model, Weights
from mcl_jax.progress import Progress
from mcl_jax.runtime import compiler_options
from mcl_jax.sharding import data_mesh, put_rows, replicated
from mcl_jax.train_state import TrainState, create_state
from mcl_jax.train_step import make_train_step
from mcl_jax.trees import all_finite
from mcl_jax.weights import fit, load_weights
from mcl_jax.workdir import held, record_stretch, require_no_changes


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


def train(
    config: ConfigDict, workdir: Path, *, accept_changes: bool = False, leaving: Leaving | None = None
) -> dict[str, Any]:
    """Trains from the newest checkpoint in workdir, or from the start, then tests.

    Args:
        config: a valid config, see `mcl_jax.config.validate`.
        workdir: gets checkpoints/, tensorboard/, test/ and stretches.jsonl.
        accept_changes: whether a run may go on with a config that differs in what matters.
        leaving: says when to end before the last step; None for never.

    Returns:
        The metrics of the test at the end.

    Raises:
        UserError: for anything the user can mend: config, data, checkpoints, a loss that is not finite.
        LeavingError: it was asked to end; what it did is saved.
    """
    leaving = leaving or Leaving()
    data = open_data(config)
    start = _find_start(config, workdir)
    model = build_train_model(config, start.block, data.subjects)
    embedder = build_embedder(config, model.block)
    optimization, mesh = build_optimization(config), data_mesh()
    allowed = allowed_in_a_row(config)
    update = guarded(make_train_step(model, optimization.optimizer, config.loss.to_dict()), allowed)
    train_step = compile_guarded(update, mesh, compiler_options())

    with held(workdir) as lock, Checkpoints(workdir, keep=config.train.keep) as checkpoints:
        leaving.before_ending_at_once(lock.release)
        accepted: list[str] = []
        if (newest := checkpoints.wait()) is not None:
            accepted = require_no_changes(config, workdir, newest, accept=accept_changes)
        state = _first_state(config, model, optimization, start.weights, checkpoints, mesh)
        first, steps = int(state.step), config.train.steps
        if first > steps:
            logging.warning("train.steps is %d, and step %d is done: nothing to train", steps, first)
        write_config(config, workdir / "config_train.json")
        record_stretch(config, workdir, first, accepted)
        leaving.saved(checkpoints.wait())
        in_flight, left_out = InFlight(allowed), jax.device_put(start_counter(), replicated(mesh))
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
            try:
                for step in range(first + 1, steps + 1):
                    with leaving.waiting(alone=jax.process_count() == 1):
                        batch = next(batches)
                    leave = np.full(jax.local_device_count(), leaving.asked)
                    rows = put_rows(batch | {"leave": leave}, mesh)
                    state, left_out, metrics = train_step(state, left_out, rows)
                    leaving.steps_in_hand()
                    in_flight.add(step, metrics)
                    test = config.train.test_every and step % config.train.test_every == 0 and step < steps
                    save = step % config.train.save_every == 0 or step == steps or test
                    if save:
                        in_flight.settle()
                        checkpoints.save(state, model.block)
                    progress.update(step, metrics)
                    if in_flight.leave and step < steps:
                        raise leaving.farewell()
                    if test:
                        leaving.saved(checkpoints.wait())
                        folder = workdir / f"{TEST_FOLDER}-{step}"
                        progress.scores(step, _test_meanwhile(config, folder, data.dataset, embedder, state))
            except LeavingError:
                in_flight.settle()
                checkpoints.save(state, model.block)
                leaving.saved(checkpoints.wait())
                raise leaving.farewell() from None
            except NonFiniteError as error:
                raise stop(error, config, workdir, state, model.block, data.loader.names) from None
        leaving.saved(checkpoints.wait())
        return evaluate(
            config, workdir / TEST_FOLDER, data.dataset, embedder, state.params, state.batch_stats
        )


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
        if not all_finite((weights.params, weights.batch_stats)):
            raise CheckpointError(f"{weights.source}: holds numbers that are not finite; use another")
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
