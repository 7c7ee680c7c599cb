"""Training, in order: data, model, optimiser, then step after step until the test at the end."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

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
    build_train_step,
    trained_block,
)
from mcl_jax.config import model_block, write_config
from mcl_jax.data.datasets import OpenDataset
from mcl_jax.data.feed.clip_sheet import clip_sheet
from mcl_jax.data.feed.loaders import TrainLoader
from mcl_jax.data.feed.packing import TrainBatch
from mcl_jax.data.feed.prefetch import prefetched
from mcl_jax.data.feed.watchdog import StalledError
from mcl_jax.data.fingerprint import fingerprint_of
from mcl_jax.data.sequences import Split
from mcl_jax.embed import Embedder
from mcl_jax.errors import CheckpointError
from mcl_jax.evaluate import TEST_FOLDER, NotScoredError, evaluate
from mcl_jax.models.registry import Model, Weights
from mcl_jax.runtime.mesh import data_mesh, put_rows, replicated
from mcl_jax.runtime.preemption import Leaving, LeavingError
from mcl_jax.runtime.settings import compiler_options, options_to_run_once, warn_of_missing_bfloat16
from mcl_jax.training.nonfinite import (
    GuardedStep,
    InFlight,
    NonFiniteError,
    allowed_in_a_row,
    compile_guarded,
    guarded,
    start_counter,
    stop,
)
from mcl_jax.training.reporting import Progress
from mcl_jax.training.state import TrainState, create_state
from mcl_jax.utils.pytrees import all_finite
from mcl_jax.weights.load import fit, load_weights
from mcl_jax.workdir.checkpoints import Checkpoints, newest_block
from mcl_jax.workdir.history import check_workdir, held, record_stretch, require_no_changes
from mcl_jax.workdir.retention import Keep, note_scores
from mcl_jax.workdir.trained_on import require_same_data, write_trained_on

# A batch of this host, and its rows on the devices.
_Batch = tuple[TrainBatch, dict[str, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Data:
    """What a run trains on."""

    dataset: OpenDataset
    loader: TrainLoader
    split: Split

    @property
    def subjects(self) -> int:
        """How many people are trained on."""
        return len(self.split.subjects)


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
    return Data(dataset, build_train_loader(config, split), split)


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
    check_workdir(workdir, config.data.root)
    warn_of_missing_bfloat16(config.train.precision)
    data = open_data(config)
    start = _find_start(config, workdir)
    model = build_train_model(config, start.block, data.subjects)
    embedder = build_embedder(config, model.block)
    optimization, mesh = build_optimization(config), data_mesh()

    keep, trained_on = Keep(config.train.keep, config.train.keep_every), fingerprint_of(data.split)
    with (
        held(workdir) as lock,
        Checkpoints(workdir, keep=keep, trained_on=trained_on.digests) as checkpoints,
    ):
        leaving.before_ending_at_once(lock.release)

        def required(step: int) -> list[str]:
            stored = checkpoints.newest_trained_on()
            listed = require_no_changes(config, workdir, step, accept=accept_changes)
            return listed + require_same_data(trained_on, workdir, stored, step, accept=accept_changes)

        accepted: list[str] = []
        newest, last = checkpoints.wait(), config.train.steps
        if newest is not None and newest < last:
            accepted = required(newest)
        state = _first_state(config, model, optimization, start.weights, checkpoints, mesh)
        step = int(state.step)
        if newest is not None and step < last <= newest:  # what was finished is damaged, and is made again
            accepted = required(step)
        if step < last:
            write_config(config, workdir / "config_train.json")
            record_stretch(config, workdir, step, accepted)
            write_trained_on(trained_on, workdir)
        leaving.saved(checkpoints.wait())
        run = _Run(config, workdir, data, model, embedder, optimization, mesh, checkpoints, leaving, state)
        run.go_on()
        params, batch_stats = run.state.params, run.state.batch_stats
        return evaluate(config, workdir / TEST_FOLDER, data.dataset, embedder, params, batch_stats)


@dataclasses.dataclass
class _Run:
    """A run on its way from its first step to its last; `state` is the newest."""

    config: ConfigDict
    workdir: Path
    data: Data
    model: Model
    embedder: Embedder
    optimization: Optimization
    mesh: Mesh
    checkpoints: Checkpoints
    leaving: Leaving
    state: TrainState

    def go_on(self) -> None:
        """Trains up to the last step, which is on disk when this returns.

        Raises:
            NonFiniteError: an update was not finite; what makes it again is saved.
            LeavingError: the run was asked to end; what it did is saved.
            StalledError: no batch comes; what it did is saved.
        """
        config, first, last = self.config, int(self.state.step), self.config.train.steps
        workers, timeout = config.data.workers, config.data.timeout
        if first > last:
            logging.warning("train.steps is %d, and step %d is done: nothing to train", last, first)
        in_flight = InFlight(allowed_in_a_row(config))
        with (
            prefetched(
                self.data.loader, range(first, last), workers, timeout=timeout, then=self._put
            ) as batches,
            Progress(
                self.workdir,
                start=first,
                steps=last,
                log_every=config.train.log_every,
                sequences_per_step=math.prod(config.train.batch),
                schedule=self.optimization.schedule,
            ) as progress,
        ):
            try:
                # A transfer that nobody sees could hold up every step; those here are all asked for.
                with jax.transfer_guard("disallow"):
                    self._take_steps(range(first + 1, last + 1), batches, in_flight, progress)
            except NonFiniteError as error:
                names = self.data.loader.names
                raise stop(error, config, self.workdir, self.state, self.model.block, names) from None
        self.leaving.saved(self.checkpoints.wait())

    def _put(self, batch: TrainBatch) -> _Batch:
        """Puts a batch on the devices, in the thread that reads ahead, one or two steps before its own.

        A GPU's memory is given out for use after the last step that was handed over by then. So a batch that
        is put right before its own step is copied between two steps, while the GPU waits; an earlier one
        during a step.
        """
        return batch, put_rows(cast(Mapping[str, np.ndarray], batch), self.mesh)

    def _take_steps(
        self, steps: range, batches: Iterator[_Batch], in_flight: InFlight, progress: Progress
    ) -> None:
        config, leaving = self.config, self.leaving
        train_step, left_out = self._compile()
        wishes = self._put_wishes()
        compiled: set[int] = set()
        for step in steps:
            try:
                with leaving.waiting(alone=jax.process_count() == 1):
                    batch, rows = next(batches)
            except LeavingError:
                self._save(in_flight)
                leaving.saved(self.checkpoints.wait())
                raise leaving.farewell() from None
            except StalledError as error:
                if jax.process_count() == 1:  # the other hosts are in a step, not in a save
                    self._save(in_flight)
                    leaving.saved(self.checkpoints.wait())
                raise StalledError(f"{error}; {leaving.what_is_saved()}") from None
            if step == steps[0] and jax.process_index() == 0:
                progress.clips(step, clip_sheet(batch))
            slots = batch["segment_ids"].shape[1]
            if slots not in compiled:
                logging.info("compiling the step for rows of %d, or reading it from the cache", slots)
                compiled.add(slots)
            self.state, left_out, metrics = train_step(self.state, left_out, rows | wishes[leaving.asked])
            leaving.steps_in_hand()
            in_flight.add(step, metrics)
            is_last = step == steps[-1]
            test = config.train.test_every and step % config.train.test_every == 0 and not is_last
            leave_now = in_flight.leave and not is_last
            if step % config.train.save_every == 0 or is_last or test or leave_now:
                self._save(in_flight)
            progress.update(step, metrics)
            if test or leave_now:
                leaving.saved(self.checkpoints.wait())
            if leave_now:
                raise leaving.farewell()
            if test:
                progress.scores(step, self._scores(step))

    def _compile(self) -> tuple[GuardedStep, jax.Array]:
        """Returns the update, to be compiled when first called with rows of a size, and its counter before.

        Any size of rows but the largest is that of one batch in eight or more, so they are compiled in the
        first steps of a run, and come from the cache of programs in later runs: nothing is done ahead.
        """
        train_step = build_train_step(self.config, self.model, self.optimization)
        update = guarded(train_step, allowed_in_a_row(self.config))
        counter = jax.device_put(start_counter(), replicated(self.mesh))
        return compile_guarded(update, self.mesh, compiler_options(training=True)), counter

    def _put_wishes(self) -> dict[bool, dict[str, jax.Array]]:
        """Returns rows `leave` on the devices, for a host that wants to leave and for one that does not.

        They lie there before the first step, so that a step can have the wish of its own moment.
        """
        devices = jax.local_device_count()
        return {wish: put_rows({"leave": np.full(devices, wish)}, self.mesh) for wish in (False, True)}

    def _save(self, in_flight: InFlight) -> None:
        """Starts saving the newest state, once it is known to be finite."""
        in_flight.settle()
        with jax.transfer_guard("allow"):  # Orbax has its own ways
            self.checkpoints.save(self.state, self.model.block)

    def _scores(self, step: int) -> dict[str, Any]:
        """Returns the scores of a test during training, which goes on where nothing can be scored."""
        folder = self.workdir / f"{TEST_FOLDER}-{step}"
        params, batch_stats = self.state.params, self.state.batch_stats
        try:
            with jax.transfer_guard("allow"):  # for the scores; the embedder's loop has a guard of its own
                report = evaluate(self.config, folder, self.data.dataset, self.embedder, params, batch_stats)
        except NotScoredError as error:
            logging.warning("%s", error)
            return {}
        scores = report.get("scores", {})
        if self.config.train.keep_best:
            note_scores(self.workdir, self.config.train.keep_best, step, scores)
        return scores


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
        weights = load_weights(config.init_from, model_block(config))
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
    arrays = model.initial_arrays(config.seed, options_to_run_once())
    state = jax.device_put(create_state(*arrays, optimization.optimizer), replicated(mesh))
    restored = checkpoints.restore(state)
    if restored is not None:
        logging.info("resuming after step %d", int(restored.step))
        return restored
    if weights is not None:
        if not all_finite((weights.params, weights.batch_stats)):
            raise CheckpointError(f"{weights.source}: holds numbers that are not finite; use another")
        params, batch_stats = jax.device_put(fit(weights, model, *arrays), replicated(mesh))
        return dataclasses.replace(state, params=params, batch_stats=batch_stats)
    if config.train.freeze_batch_norm:
        logging.warning(
            "train.freeze_batch_norm: without init_from the statistics are, and stay, means 0, variances 1"
        )
    return state
