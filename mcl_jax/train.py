"""Training, in order: data, model, optimiser, then step after step until the test at the end."""

import dataclasses
import json
import math
from collections import deque
from pathlib import Path
from typing import Any

import jax
import optax
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mcl_jax.checkpoint import Checkpoints
from mcl_jax.config import frame_sampling, model_arguments
from mcl_jax.data.datasets import OpenDataset, open_dataset
from mcl_jax.data.feed.loaders import HostShare, TrainLoader
from mcl_jax.data.feed.prefetch import prefetched
from mcl_jax.errors import ConfigError, UserError
from mcl_jax.evaluate import Embedder, NotScoredError, evaluate
from mcl_jax.files import write_atomically
from mcl_jax.optim import make_optimizer, multi_step
from mcl_jax.progress import Progress
from mcl_jax.runtime import compiler_options
from mcl_jax.sharding import data_mesh, put_rows, replicated
from mcl_jax.train_state import Model, TrainState, create_model, create_state
from mcl_jax.train_step import LossSettings, compile_train_step, make_train_step
from mcl_jax.weights import fit, load_state_dict, number_of_classes

TEST_FOLDER = "test"

# Batches handed to the devices before the loop waits for the oldest.
_STEPS_IN_FLIGHT = 2


@dataclasses.dataclass(frozen=True)
class Run:
    """What is fixed before the first step."""

    dataset: OpenDataset
    loader: TrainLoader
    num_classes: int
    model: Model
    schedule: optax.Schedule
    optimizer: optax.GradientTransformation
    mesh: Mesh


def open_config_dataset(config: ConfigDict) -> OpenDataset:
    """Lists the sequences that the `data` block of a config names.

    Raises:
        DataError: if they cannot be found.
    """
    data = config.data
    return open_dataset(data.dataset, data.root, partition=data.partition, file_format=data.format)


def prepare(config: ConfigDict) -> Run:
    """Opens the data and builds model and optimiser of a valid config.

    Raises:
        UserError: if the data cannot be used, or config and data do not fit.
    """
    dataset = open_config_dataset(config)
    split = dataset.train_split()
    loader = TrainLoader(
        split,
        dataset.source,
        batch=config.train.batch,
        frames=frame_sampling(config),
        augmentation=config.data.augment,
        seed=config.seed,
        skip_unreadable=config.data.on_error == "skip",
        share=HostShare(jax.process_index(), jax.process_count(), jax.device_count()),
    )
    num_classes = config.model.num_classes or len(split.subjects)
    if num_classes < len(split.subjects):
        raise ConfigError(
            f"model.num_classes: is {num_classes}, but there are {len(split.subjects)} training subjects"
        )
    arguments = model_arguments(config.model, num_classes)
    model = create_model(config.model.name, arguments, dtype=config.train.precision)
    schedule = multi_step(config.optimizer.lr, config.optimizer.milestones, config.optimizer.gamma)
    optimizer = make_optimizer(
        config.optimizer.name,
        schedule,
        momentum=config.optimizer.momentum,
        weight_decay=config.optimizer.weight_decay,
    )
    logging.info(
        "training on %d sequences of %d subjects, %d devices",
        len(split.sequences),
        len(split.subjects),
        jax.device_count(),
    )
    return Run(dataset, loader, num_classes, model, schedule, optimizer, data_mesh())


def make_embedder(config: ConfigDict, num_classes: int) -> Embedder:
    """Returns the embedder of a config; `num_classes` is that of the parameters it will be given."""
    arguments = model_arguments(config.model, num_classes)
    model = create_model(config.model.name, arguments, dtype=config.eval.precision)
    return Embedder(model, rows=config.eval.rows, slots=config.eval.slots)


def write_config(config: ConfigDict, path: Path) -> None:
    """Writes a config as JSON, for the record; only the first host does."""
    if jax.process_index() == 0:
        content = json.dumps(json.loads(config.to_json_best_effort()), indent=1)
        write_atomically(path, content.encode())


def first_state(config: ConfigDict, run: Run, checkpoints: Checkpoints) -> TrainState:
    """Returns the state to go on from: the newest checkpoint, or `init_from`, or initial parameters.

    Raises:
        CheckpointError: if that checkpoint is damaged or of another model.
    """
    params, batch_stats = run.model.initial_arrays(config.seed)
    state = jax.device_put(create_state(params, batch_stats, run.optimizer), replicated(run.mesh))
    restored = checkpoints.restore(state)
    if restored is not None:
        logging.info("resuming after step %d", int(restored.step))
        return restored
    if config.init_from:
        state_dict = load_state_dict(config.init_from, config.model)
        fitted = fit(state_dict, config.model.name, params, batch_stats)
        state = dataclasses.replace(state, **jax.device_put(fitted, replicated(run.mesh)))
    return state


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
    run = prepare(config)
    stored_model = {**config.model, "num_classes": run.num_classes}
    embedder = make_embedder(config, run.num_classes)
    update = make_train_step(run.model, run.optimizer, LossSettings(**config.loss))
    train_step = compile_train_step(update, run.mesh, compiler_options())

    write_config(config, workdir / "config_train.json")
    with Checkpoints(workdir, keep=config.train.keep) as checkpoints:
        state = first_state(config, run, checkpoints)
        start, steps = int(state.step), config.train.steps
        in_flight: deque[Any] = deque()
        with (
            prefetched(run.loader, range(start, steps), config.data.workers) as batches,
            Progress(
                workdir,
                start=start,
                steps=steps,
                log_every=config.train.log_every,
                sequences_per_step=math.prod(config.train.batch),
                schedule=run.schedule,
            ) as progress,
        ):
            for step in range(start + 1, steps + 1):
                state, metrics = train_step(state, put_rows(next(batches), run.mesh))
                in_flight.append(metrics)
                if len(in_flight) > _STEPS_IN_FLIGHT:
                    jax.block_until_ready(in_flight.popleft())

                reported = progress.update(step, metrics)
                save = step % config.train.save_every == 0 or step == steps
                if reported or save:
                    _require_finite(float(metrics["loss"]), step)
                if save:
                    checkpoints.save(state, stored_model)
                if config.train.test_every and step % config.train.test_every == 0 and step < steps:
                    folder = workdir / f"{TEST_FOLDER}-{step}"
                    progress.scores(step, _test_meanwhile(config, folder, run, embedder, state))
    return evaluate(config, workdir / TEST_FOLDER, run.dataset, embedder, state.params, state.batch_stats)


def _test_meanwhile(
    config: ConfigDict, folder: Path, run: Run, embedder: Embedder, state: TrainState
) -> dict[str, Any]:
    """Returns the scores of a test during training, which goes on where nothing can be scored."""
    try:
        report = evaluate(config, folder, run.dataset, embedder, state.params, state.batch_stats)
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


def test(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Tests `init_from`, or the newest checkpoint in workdir, and writes WORKDIR/test/.

    Args:
        config: a valid config, see `mcl_jax.config.validate`.
        workdir: of the training run, or where to write.

    Returns:
        The metrics.

    Raises:
        UserError: for anything the user can mend: config, data, checkpoints.
    """
    dataset = open_config_dataset(config)
    dataset.test_split()  # fails now, not after the weights are read
    state_dict = load_state_dict(config.init_from or str(workdir), config.model)
    num_classes = config.model.num_classes or number_of_classes(state_dict)
    embedder = make_embedder(config, num_classes)
    write_config(config, workdir / "config_test.json")
    fitted = fit(state_dict, config.model.name, *embedder.model.initial_arrays(config.seed))
    return evaluate(config, workdir / TEST_FOLDER, dataset, embedder, fitted["params"], fitted["batch_stats"])
