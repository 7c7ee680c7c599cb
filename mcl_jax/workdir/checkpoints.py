"""Saves and restores the training state with Orbax, and checks every checkpoint against its digest.

Orbax ensures that an interrupted save does not count as a checkpoint. But it does not notice damage to a
finished one: a flipped byte gives wrong numbers. So every checkpoint carries SHA-256 digests, and reading
falls back to the newest undamaged one.
"""

import contextlib
import dataclasses
import datetime
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import jax
from absl import logging
from orbax.checkpoint import v1 as ocp

from mcl_jax.errors import CheckpointError, ConfigError
from mcl_jax.models.registry import Weights, digest_of_weights, plain_block
from mcl_jax.training.state import (
    AveragedState,
    TrainState,
    start_average,
    with_average,
    without_average,
)
from mcl_jax.utils.pytrees import all_finite, leaves_by_name
from mcl_jax.utils.resource_limits import resource_limit
from mcl_jax.utils.retry import retried
from mcl_jax.workdir.checkpoint_contents import (
    BLOCK,
    FORMAT,
    block_is_sound,
    digest_of_arrays,
    digest_of_block,
    digests,
    stored_block,
    with_integer_keys,
)
from mcl_jax.workdir.pending_save import PendingSave
from mcl_jax.workdir.retention import Keep
from mcl_jax.workdir.step_folders import StepFolders

FOLDER = "checkpoints"
DAMAGED_FOLDER = "checkpoints-damaged"
AVERAGE = "average"
"""Name of the averaged weights: in a checkpoint, in the folder of their test, and in RUN@average."""

_TRAINED_ON = "trained_on"
_WEIGHTS = ("params", "batch_stats")
_NOT_FINITE = "it holds numbers that are not finite"
_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Stored:
    """A checkpoint on disk.

    Attributes:
        step: number of updates.
        saved: when it was saved.
        nbytes: total size of its files.
        problem: its damage; "" if it is sound.
        digest: digest of its model, as in the metrics.json of a test; "" if it is damaged, or its model is
            unknown here.
    """

    step: int
    saved: datetime.datetime
    nbytes: int
    problem: str
    digest: str


class Checkpoints:
    """The checkpoints under WORKDIR/checkpoints."""

    def __init__(
        self, workdir: Path, *, keep: Keep | None = None, trained_on: Mapping[str, str] | None = None
    ):
        """Opens the folder; creates it if it is missing.

        Args:
            workdir: folder of the run.
            keep: which checkpoints to keep, given only by the run that trains there; then the remains of
                interrupted saves are deleted. None deletes nothing, because another process may be saving.
            trained_on: digests of the training data, to store in each checkpoint; None if unknown.
        """
        self._workdir, self._trained_on = workdir.absolute(), trained_on
        keep_all = ocp.training.preservation_policies.PreserveAll()
        self._checkpointer = ocp.training.Checkpointer(
            self._workdir / FOLDER,
            # The training loop decides when to save.
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=keep_all if keep is None else keep.policy(self._workdir),
            step_name_format=StepFolders(),
            cleanup_tmp_directories=keep is not None,
        )
        self._unsettled: PendingSave | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After an error, a second error would only hide it.
        with contextlib.suppress(Exception) if error is not None else self._saving():
            try:
                self._settle()
            finally:
                self._checkpointer.close()

    def save(self, state: TrainState, block: Mapping[str, Any], *, uncounted_batches: int = 0) -> None:
        """Starts saving a state under its step; the state may be donated at once.

        Args:
            state: the state, whole on each of this machine's devices.
            block: the `model` block that makes the model, whole.
            uncounted_batches: see `Weights`.

        Raises:
            CheckpointError: if the state holds numbers that are not finite, since no run could continue from
                it; or if this save, or the one before, cannot be written.
        """
        step = int(state.step)
        if step in self._steps():
            return
        host_state = jax.device_get(state)
        if not all_finite(host_state):
            raise CheckpointError(f"{self._workdir / FOLDER}: step {step} is not saved: {_NOT_FINITE}")
        metadata = {
            "format": FORMAT,
            "digests": digests(host_state) | {BLOCK: digest_of_block(block)},
            BLOCK: plain_block(block),
            "uncounted_batches": uncounted_batches,
        }
        if self._trained_on is not None:
            metadata[_TRAINED_ON] = dict(self._trained_on)
        with self._saving():
            self._settle()
            saving = PendingSave(self._checkpointer, step, self._name(step), metadata)
            # Several hosts must all agree on a save.
            saving.start(state, host_state if _alone() else None)
            self._unsettled = saving

    def wait(self) -> int | None:
        """Waits until the running save is on disk; returns the newest step there, or None.

        Raises:
            CheckpointError: if it cannot be written.
        """
        with self._saving():
            self._settle()
        return next(iter(self._steps()), None)

    def newest_block(self) -> dict[str, Any] | None:
        """Returns the `model` block of the newest checkpoint that can be read, or None if there is none."""
        custom = self._newest_custom()
        return None if custom is None else stored_block(custom)

    def newest_trained_on(self) -> dict[str, str] | None:
        """Returns the digests of the data of the newest checkpoint that can be read; None if it has none."""
        return (self._newest_custom() or {}).get(_TRAINED_ON)

    def _newest_custom(self) -> dict[str, Any] | None:
        read = (self._metadata(step) for step in self._steps())
        return next((metadata.custom_metadata for metadata in read if metadata is not None), None)

    def restore(self, template: TrainState) -> TrainState | None:
        """Returns the newest undamaged state, or None if there is no checkpoint.

        Damaged newer ones are moved to WORKDIR/checkpoints-damaged, so that those steps can be saved again.

        Averaged weights start from the others if the checkpoint has none, and are left out if the template
        has none.

        Args:
            template: a state of the same structure; shapes, types and shardings are taken from it.

        Raises:
            CheckpointError: if every checkpoint is damaged, or made for another model or optimiser.
        """
        plain, averaged = _abstract(template)

        def load(step: int, metadata: Any) -> TrainState | None:
            abstract = averaged if AVERAGE in metadata.metadata else plain
            self._check_structure(step, metadata.metadata, abstract)
            state: TrainState = self._checkpointer.load(step, abstract)
            host_state = jax.device_get(state)
            found, expected = digests(host_state), metadata.custom_metadata["digests"]
            if any(found[part] != expected.get(part) for part in found):
                return None
            _require_finite(host_state)
            return state

        state, damaged = self._newest_undamaged(load)
        if state is None:
            return None
        self._set_aside(damaged)
        if isinstance(template, AveragedState) and not isinstance(state, AveragedState):
            logging.warning("train.ema: the average starts from the weights of step %d", int(state.step))
            return start_average(state)
        return state if isinstance(template, AveragedState) else without_average(state)

    def load_weights(self, step: int | None = None, *, average: bool = False) -> Weights:
        """Returns the newest undamaged parameters and statistics, of a run with any optimiser.

        Args:
            step: step of the checkpoint to use; None for the newest undamaged one.
            average: whether to return those averaged over training.

        Raises:
            CheckpointError: if there is no undamaged checkpoint, or it has no averaged weights.
        """

        def load(step: int, metadata: Any) -> Weights | None:
            raw = self._load_raw(step, metadata)
            custom = metadata.custom_metadata
            if average and AVERAGE not in raw:
                raise CheckpointError(
                    f"{self._name(step)}: has no averaged weights, since train.ema was 0; leave out "
                    f"@{AVERAGE} for the others"
                )
            parts = (AVERAGE,) if average else _WEIGHTS
            if any(digest_of_arrays(raw[part]) != custom["digests"].get(part) for part in parts):
                return None
            chosen = raw[AVERAGE] if average else raw
            _require_finite([chosen[part] for part in _WEIGHTS])
            params, batch_stats = (with_integer_keys(chosen[part]) for part in _WEIGHTS)
            source = f"{self._workdir}@{AVERAGE}" if average else str(self._workdir)
            uncounted = custom.get("uncounted_batches", 0)
            return Weights(stored_block(custom), params, batch_stats, step, source, uncounted)

        weights, _ = self._newest_undamaged(load, None if step is None else [step])
        if weights is None:
            raise CheckpointError(
                f"{self._workdir}: has no checkpoint; train first, or set --config.init_from to one"
            )
        return weights

    def has_average(self, step: int) -> bool:
        """Returns whether the checkpoint of a step has averaged weights."""
        metadata = self._metadata(step)
        return metadata is not None and AVERAGE in metadata.metadata

    def survey(self) -> Iterator[Stored]:
        """Yields the checkpoints, the oldest first; reads each one completely."""
        for step in reversed(self._steps()):
            folder = self._workdir / FOLDER / str(step)
            nbytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            saved = datetime.datetime.fromtimestamp(folder.stat().st_mtime)
            problem, digest = self._examine(step)
            yield Stored(step, saved, nbytes, problem, digest)

    def _examine(self, step: int) -> tuple[str, str]:
        """Returns the damage of a checkpoint ('' if it is sound) and the digest of its model."""
        metadata = self._metadata(step)
        if metadata is None:
            return "damaged: its metadata", ""
        try:
            raw = self._load_raw(step, metadata)
        except Exception as error:  # what damage raises depends on where it is
            return f"damaged: {_first_line(error)}", ""
        custom = metadata.custom_metadata
        changed = [part for part in sorted(raw) if digest_of_arrays(raw[part]) != custom["digests"].get(part)]
        if changed:
            return f"damaged: {', '.join(changed)}", ""
        if not all_finite(raw):
            return _NOT_FINITE, ""
        arrays = (with_integer_keys(raw[part]) for part in _WEIGHTS)
        with contextlib.suppress(ConfigError):  # a user's own model, which is not imported here
            return "", digest_of_weights(stored_block(custom), *arrays)
        return "", ""

    def _load_raw(self, step: int, metadata: Any) -> dict[str, Any]:
        """Returns the parts of a state on the host as nested dicts, for any optimiser."""
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), metadata.metadata
        )
        return jax.device_get(self._checkpointer.load(step, abstract))

    def _newest_undamaged(
        self, load: Callable[[int, Any], _T | None], steps: Sequence[int] | None = None
    ) -> tuple[_T | None, list[int]]:
        """Loads the newest usable checkpoint; returns it, and the damaged newer ones.

        Args:
            load: function of step and metadata; None, or any error except a UserError, means damage.
            steps: the steps to try, the newest first; None for all.

        Raises:
            CheckpointError: if there are checkpoints, and all are damaged.
        """
        damaged: list[int] = []
        for step in self._steps() if steps is None else steps:
            metadata = self._metadata(step)
            if metadata is not None:
                try:
                    read = functools.partial(load, step, metadata)
                    loaded = retried(self._name(step), read) if _alone() else read()
                except CheckpointError:
                    raise
                except Exception as error:  # what damage raises depends on where it is
                    logging.warning("checkpoint %d: %s", step, _first_line(error))
                else:
                    if loaded is not None:
                        return loaded, damaged
            logging.warning("checkpoint %d cannot be used; trying the one before it", step)
            damaged.append(step)
        if damaged:
            raise CheckpointError(
                f"{self._workdir / FOLDER}: all checkpoints ({damaged}) are damaged; "
                "restore the folder from a copy, or remove it to start again"
            )
        return None, []

    @contextlib.contextmanager
    def _saving(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a full disk raises different errors for different files
            reason = getattr(error, "strerror", None) or _first_line(error)
            what, remedy = resource_limit(error) or (reason, "make room")
            newest = next(iter(self._steps()), None)
            kept = "none was saved before" if newest is None else f"the newest saved step is {newest}"
            raise CheckpointError(
                f"{self._workdir / FOLDER}: a checkpoint cannot be saved: {what}; {kept}; {remedy}, and "
                "the same command continues"
            ) from None

    def _settle(self) -> None:
        """Waits until the running save is on disk; repeats it if the disk was away."""
        saving, self._unsettled = self._unsettled, None
        if saving is not None:
            saving.settle()
        self._checkpointer.wait()

    def _name(self, step: int) -> str:
        return str(self._workdir / FOLDER / str(step))

    def _steps(self) -> list[int]:
        return sorted((c.step for c in self._checkpointer.checkpoints), reverse=True)

    def _metadata(self, step: int) -> Any:
        """Returns the metadata of a checkpoint, or None if it is damaged."""
        try:
            metadata = retried(self._name(step), lambda: self._checkpointer.metadata(step))
            custom = metadata.custom_metadata or {}
            # Orbax reports some damage as a missing item, not as an error.
            if metadata.metadata is not None and {"digests", BLOCK} <= set(custom) and block_is_sound(custom):
                return metadata
        except Exception as error:  # what damage raises depends on where it is
            logging.warning("checkpoint %d: %s", step, _first_line(error))
        return None

    def _check_structure(self, step: int, stored: Any, template: TrainState) -> None:
        here = {path: tuple(x.shape) for path, x in leaves_by_name(template).items()}
        there = {path: tuple(x.shape) for path, x in leaves_by_name(stored).items()}
        for path in sorted(here.keys() | there.keys()):
            if here.get(path) != there.get(path):
                raise CheckpointError(
                    f"{self._workdir / FOLDER / str(step)}: {path} is {there.get(path, 'missing')} in it and "
                    f"{here.get(path, 'missing')} in this config; use another --workdir, or "
                    "--config.init_from to start from its weights"
                )

    def _set_aside(self, steps: list[int]) -> None:
        for step in steps:
            target = self._workdir / DAMAGED_FOLDER
            target.mkdir(exist_ok=True)
            # A step may be damaged more than once.
            names = (str(step) if n == 1 else f"{step}-{n}" for n in itertools.count(1))
            free = next(target / name for name in names if not (target / name).exists())
            (self._workdir / FOLDER / str(step)).rename(free)
        if steps:
            logging.warning("moved damaged checkpoints %s to %s", steps, self._workdir / DAMAGED_FOLDER)
            self._checkpointer.reload()


def newest_block(workdir: Path) -> dict[str, Any] | None:
    """Returns the `model` block of the newest checkpoint of a run, or None if it has none yet."""
    if not (workdir / FOLDER).is_dir():
        return None
    with Checkpoints(workdir) as checkpoints:
        return checkpoints.newest_block()


def _abstract(template: TrainState) -> tuple[TrainState, AveragedState]:
    """Returns the shapes of a state without and with averaged weights."""
    shapes: TrainState = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), template
    )
    average = {"params": shapes.params, "batch_stats": shapes.batch_stats}
    return without_average(shapes), with_average(shapes, average)


def _require_finite(tree: Any) -> None:
    """Raises an error for a checkpoint that no run could continue from, so that it is skipped."""
    if not all_finite(tree):
        raise ValueError(_NOT_FINITE)


def _alone() -> bool:
    """Whether this host may retry by itself; several hosts save and load together."""
    return jax.process_count() == 1


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
