"""The training loop: step after step, saving and testing on the way, then the test at the end."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mcl_jax.build import (
    allowed_nonfinite,
    build_embedder,
    build_guarded_step,
    build_optimization,
    build_train_model,
)
from mcl_jax.data.datasets import DATASETS, OpenDataset
from mcl_jax.data.feed.clip_sheet import clip_sheet
from mcl_jax.data.feed.loaders import TrainLoader
from mcl_jax.data.feed.packing import TrainBatch
from mcl_jax.data.feed.prefetch import prefetched
from mcl_jax.data.feed.watchdog import StalledError
from mcl_jax.data.fingerprint import fingerprint_of
from mcl_jax.data.first_look import look_at
from mcl_jax.embed import Embedder
from mcl_jax.errors import ConfigError
from mcl_jax.evaluate import NotScoredError, all_scores, evaluate, joined_tests, require_scorable
from mcl_jax.evaluation.page.curves import PAGE, About, Curves
from mcl_jax.loggers.logger import LoggedRun
from mcl_jax.loggers.registry import Loggers, open_loggers, require_loggers
from mcl_jax.losses.pairwise import Metrics
from mcl_jax.models.registry import Model
from mcl_jax.runtime.mesh import data_mesh, put_rows, replicated
from mcl_jax.runtime.preemption import PreemptedError, Preemption
from mcl_jax.runtime.settings import compiler_options, warn_of_missing_bfloat16
from mcl_jax.train_start import begin, find_start, open_data
from mcl_jax.training.nonfinite import NonFiniteError, StepMonitor, compile_guarded, start_counter
from mcl_jax.training.reporting import TrainingReporter
from mcl_jax.training.state import AveragedState, TrainState
from mcl_jax.utils.extras import require_extra
from mcl_jax.utils.pytrees import flat_keys
from mcl_jax.utils.spacing import Spacing
from mcl_jax.weights.load import average_of, source_of
from mcl_jax.workdir.checkpoints import AVERAGE, Checkpoints
from mcl_jax.workdir.failed_step import save_failed_step
from mcl_jax.workdir.history import RunHistory, restarts
from mcl_jax.workdir.location import check_workdir
from mcl_jax.workdir.lock import RUN_LOCK, held
from mcl_jax.workdir.retention import Keep, note_scores
from mcl_jax.workdir.test_folder import TEST_FOLDER

_LEAVING_SECONDS = 10.0
"""For the loggers of a run that was asked to end; its state is saved by then."""

# A batch of this host, and its rows on the devices.
_Batch = tuple[TrainBatch, dict[str, jax.Array]]


def train(
    config: ConfigDict, workdir: Path, *, accept_changes: bool = False, preemption: Preemption | None = None
) -> dict[str, Any]:
    """Trains from the newest checkpoint in workdir, or from the start, then tests.

    Args:
        config: a valid config, see `mcl_jax.config.validate`.
        workdir: gets checkpoints/, test/, stretches.jsonl and folders of loggers, such as tensorboard/.
        accept_changes: whether a run may go on with a config or data that differ in what matters.
        preemption: says when to end before the last step; None for never.

    Returns:
        The metrics of the test at the end.

    Raises:
        UserError: for anything the user can mend: config, data, checkpoints, a loss that is not finite.
        PreemptedError: the run was asked to end; its state is saved.
    """
    check_workdir(workdir, config.data.root)
    require_extra("train", "training")
    require_loggers(config.train.loggers)
    warn_of_missing_bfloat16(config.train.precision)
    data, start = open_data(config), find_start(config, workdir)
    test_split = require_scorable(config, data.dataset)
    look_at([data.split, test_split], skip=config.data.on_error == "skip")
    model = build_train_model(config, start.block, data.subjects)
    tests = _Tests(config, workdir, data.dataset, build_embedder(config, model.block))
    history = RunHistory(config, workdir, fingerprint_of(data.split), accept_changes)
    keep = Keep(config.train.keep, config.train.keep_every)
    with (
        held(workdir / RUN_LOCK),
        Checkpoints(workdir, keep=keep, trained_on=history.data.digests) as checkpoints,
    ):
        update = _Update(config, model)
        state = begin(config, model, update.optimization, start.weights, checkpoints, history)
        steps = range(int(state.step) + 1, config.train.steps + 1)
        with _loggers_of(config, workdir, steps) as loggers:
            saver = _Saver(config, workdir, checkpoints, model.block, preemption or Preemption(), loggers)
            saver.finish()
            with (
                _batches_of(config, data.loader, steps, update.mesh, model.spacing) as batches,
                _progress_of(config, workdir, steps, update, loggers) as progress,
                # A transfer that nobody asked for could hold up every step.
                jax.transfer_guard("disallow"),
            ):
                state = _take_steps(state, steps, batches, update, saver, tests, progress, data.loader)
            saver.finish()
            return _last_test(config, workdir, tests, state, loggers)


def _take_steps(
    state: TrainState,
    steps: range,
    batches: Iterator[_Batch],
    update: "_Update",
    saver: "_Saver",
    tests: "_Tests",
    progress: TrainingReporter,
    loader: TrainLoader,
) -> TrainState:
    """Trains over all steps; returns the state after the last, which is being saved.

    Raises:
        NonFiniteError: an update was not finite; what reproduces it is saved.
        PreemptedError: the run was asked to end; its state is saved.
        StalledError: no batch comes; the state is saved.
    """
    begun_at = steps.start - 1
    if steps and begun_at and tests.are_due(begun_at) and not tests.are_done(begun_at):
        progress.scores(begun_at, tests.run_on_the_way(begun_at, state))  # the last run ended before it
    try:
        for step in steps:
            batch, rows = saver.wait_for(batches, state)
            if step == steps[0]:
                progress.clips(step, clip_sheet(batch, names=loader.places(step - 1), one=loader.one))
            state, metrics = update(state, rows, leave=saver.preemption.requested)
            if update.compiling:
                progress.leave_out(update.compiling)
            saver.watch(step, metrics)
            is_last = step == steps[-1]
            leave, test = saver.monitor.leave and not is_last, tests.are_due(step) and not is_last
            if saver.is_due(step) or is_last or leave or test:
                saver.save(state)
            progress.update(step, metrics)
            if leave:
                raise saver.leave()
            if test:
                saver.finish()
                progress.scores(step, tests.run_on_the_way(step, state))
    except NonFiniteError as error:
        raise saver.save_failed_step(error, state, loader.names) from None
    return state


class _Update:
    """The compiled update, with its counter of updates left out in a row.

    Attributes:
        compiling: seconds that the last call took to compile, or to read the program; 0 where it was there.
    """

    def __init__(self, config: ConfigDict, model: Model):
        self.mesh = data_mesh()
        self.optimization = build_optimization(config)
        # Any size of rows but the largest is that of one batch in eight or more: each is compiled when it
        # first comes up, and read from the cache of programs in later runs.
        step = build_guarded_step(config, model, self.optimization)
        self._step = compile_guarded(step, self.mesh, compiler_options(training=True))
        self.compiling = 0.0
        self._compiled: set[int] = set()
        self._left_out = jax.device_put(start_counter(), replicated(self.mesh))
        # On the devices before the first step: rows of a host that wants to end, and of one that does not.
        devices = jax.local_device_count()
        self._leave = {wish: put_rows({"leave": np.full(devices, wish)}, self.mesh) for wish in (False, True)}

    def __call__(
        self, state: TrainState, rows: dict[str, jax.Array], *, leave: bool
    ) -> tuple[TrainState, Metrics]:
        """Returns the state after an update, and its metrics.

        Args:
            state: donated.
            rows: of the batch, on the devices.
            leave: whether this host wants to end the run.
        """
        slots, begin = rows["segment_ids"].shape[1], time.monotonic()
        state, self._left_out, metrics = self._step(state, self._left_out, rows | self._leave[leave])
        # The first call with a size of rows compiles; any call returns before the devices are done.
        self.compiling = 0.0 if slots in self._compiled else time.monotonic() - begin
        self._compiled.add(slots)
        return state, metrics


class _Saver:
    """Saves the state of a run, when it is due and when the run has to end."""

    def __init__(
        self,
        config: ConfigDict,
        workdir: Path,
        checkpoints: Checkpoints,
        block: Mapping[str, Any],
        preemption: Preemption,
        loggers: Loggers,
    ):
        self._config, self._workdir, self._checkpoints, self._block = config, workdir, checkpoints, block
        self._loggers = loggers
        self.preemption = preemption
        self.monitor = StepMonitor(allowed_nonfinite(config))

    def is_due(self, step: int) -> bool:
        """Returns whether `train.save_every` asks for a checkpoint of a step."""
        return step % self._config.train.save_every == 0

    def save(self, state: TrainState) -> None:
        """Starts saving a state, once it is known to be finite."""
        self.monitor.settle()
        with jax.transfer_guard("allow"):  # Orbax has its own ways
            self._checkpoints.save(state, self._block)

    def finish(self) -> None:
        """Waits until the newest checkpoint is on disk."""
        self.preemption.note_saved(self._checkpoints.wait())

    def leave(self) -> PreemptedError:
        """Waits for the newest checkpoint, then a little for the loggers; returns the error to end with."""
        newest = self._checkpoints.wait()
        self._loggers.close(finished=False, within=_LEAVING_SECONDS)
        self.preemption.note_saved(newest)  # from here on the process may exit at any time
        return self.preemption.error()

    def wait_for(self, batches: Iterator[_Batch], state: TrainState) -> _Batch:
        """Returns the next batch; where none comes or the run has to end, saves the state first.

        Raises:
            PreemptedError: the run was asked to end.
            StalledError: no batch comes.
        """
        alone = jax.process_count() == 1
        try:
            with self.preemption.interruptible(alone=alone):
                batch = next(batches)
        except PreemptedError:
            self.save(state)
            raise self.leave() from None
        except StalledError as error:
            if alone:  # the other hosts are in a step, not in a save
                self.save(state)
                self.finish()
            raise StalledError(f"{error}; {self.preemption.resume_hint()}") from None
        return batch

    def watch(self, step: int, metrics: Metrics) -> None:
        """Takes a step that was handed to the devices; from now on the process ends only after a save.

        Raises:
            NonFiniteError: an earlier update was not finite.
        """
        self.preemption.note_unsaved_step()
        self.monitor.add(step, metrics)

    def save_failed_step(
        self, error: NonFiniteError, state: TrainState, names: Callable[[int], list[str]]
    ) -> NonFiniteError:
        """Saves the state before an update that was not finite; returns the error to end the run with."""
        with jax.transfer_guard("allow"):
            return save_failed_step(error, self._config, self._workdir, state, self._block, names)


class _Tests:
    """The tests of a run: some on the way, one at the end."""

    def __init__(self, config: ConfigDict, workdir: Path, dataset: OpenDataset, embedder: Embedder):
        self._config, self._workdir, self._dataset, self._embedder = config, workdir, dataset, embedder

    def are_due(self, step: int) -> bool:
        """Returns whether `train.test_every` asks for a test after a step."""
        every = self._config.train.test_every
        return bool(every) and step % every == 0

    def are_done(self, step: int) -> bool:
        """Returns whether the test after a step, and that of the averaged weights, has been written."""
        folder = self._workdir / f"{TEST_FOLDER}-{step}"
        folders = [folder, _of_average(folder)] if self._config.train.ema else [folder]
        return all((each / "metrics.json").is_file() for each in folders)

    def run(self, state: TrainState, folder: Path) -> dict[str, Any]:
        """Tests a state, writes the report into a folder, and returns its metrics.

        Averaged weights are tested, too, into a folder beside it; the metrics hold theirs as `average`.
        """
        arrays = state.params, state.batch_stats
        source = source_of(self._workdir, int(state.step))
        tested = evaluate(self._config, folder, self._dataset, self._embedder, *arrays, source=source)
        if isinstance(state, AveragedState):
            arrays = state.average["params"], state.average["batch_stats"]
            source = source_of(average_of(self._workdir), int(state.step))
            folder = _of_average(folder)
            average = evaluate(self._config, folder, self._dataset, self._embedder, *arrays, source=source)
            tested = joined_tests(tested, average)
        return tested

    def run_on_the_way(self, step: int, state: TrainState) -> dict[str, Any]:
        """Tests a state during training, which goes on where nothing can be scored; returns the scores."""
        try:
            with jax.transfer_guard("allow"):  # for the scores; the embedder's loop has a guard of its own
                scores = all_scores(self.run(state, self._workdir / f"{TEST_FOLDER}-{step}"))
        except NotScoredError as error:
            logging.warning("%s", error)
            return {}
        if self._config.train.keep_best:
            note_scores(self._workdir, self._config.train.keep_best, step, scores)
        return scores


def _of_average(folder: Path) -> Path:
    """Returns the folder of the test of the averaged weights, beside that of the others."""
    return folder.with_name(f"{folder.name}-{AVERAGE}")


def _last_test(
    config: ConfigDict, workdir: Path, tests: _Tests, state: TrainState, loggers: Loggers
) -> dict[str, Any]:
    """Tests the last state, adds its scores to the curves and the loggers, and returns its metrics."""
    step, folder = int(state.step), workdir / TEST_FOLDER
    tested = tests.run(state, folder)
    if tested:  # on the first host, where something was scored
        scores = all_scores(tested)
        if config.train.keep_best:
            try:
                note_scores(workdir, config.train.keep_best, step, scores)
            except ConfigError as error:  # a run that is done does not fail for it
                logging.warning("%s", error)
        curves = Curves(workdir, step, _about(config, workdir))
        curves.add_scores(step, scores)
        curves.write_page()
        loggers.report(step, scores, folder, workdir / PAGE)
    return tested


def _loggers_of(config: ConfigDict, workdir: Path, steps: range) -> Loggers:
    """Returns the loggers of a run; only the first host has any."""
    names = config.train.loggers if jax.process_index() == 0 else ()
    return open_loggers(names, LoggedRun(workdir, steps.start - 1, flat_keys(config)))


def _batches_of(
    config: ConfigDict, loader: TrainLoader, steps: range, mesh: Mesh, spacing: Spacing
) -> AbstractContextManager[Iterator[_Batch]]:
    """Returns the batches of some steps, read and put on the devices ahead of their use.

    A GPU's memory is given out for use after the last step that was handed over by then. So a batch that is
    put right before its own step is copied between two steps, while the GPU waits; an earlier one during a
    step.
    """
    seen: set[int] = set()

    def put(batch: TrainBatch) -> _Batch:
        spacing.check(batch["segment_ids"])
        slots = batch["segment_ids"].shape[1]
        if slots not in seen:
            logging.info("compiling the step for rows of %d, or reading it from the cache", slots)
            seen.add(slots)
        return batch, put_rows(cast(Mapping[str, np.ndarray], batch), mesh)

    numbers = range(steps.start - 1, steps.stop - 1)
    return prefetched(loader, numbers, config.data.workers, timeout=config.data.timeout, then=put)


def _progress_of(
    config: ConfigDict, workdir: Path, steps: range, update: _Update, loggers: Loggers
) -> TrainingReporter:
    return TrainingReporter(
        workdir,
        start=steps.start - 1,
        steps=config.train.steps,
        log_every=config.train.log_every,
        sequences_per_step=math.prod(config.train.batch),
        schedule=update.optimization.schedule,
        about=_about(config, workdir),
        loggers=loggers,
    )


def _about(config: ConfigDict, workdir: Path) -> About:
    data = DATASETS[config.data.dataset].title or config.data.dataset
    return About(workdir.name, f"{config.model.name} on {data}", restarts(workdir))
