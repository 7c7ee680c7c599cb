"""Guards of a run against numbers that are not finite: found on the device in every step, never kept."""

import dataclasses
import functools
import json
import math
import shutil
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from mcl_jax.errors import UserError
from mcl_jax.losses.pairwise import Metrics
from mcl_jax.ops.per_device import split_over
from mcl_jax.runtime.mesh import replicated, split_rows
from mcl_jax.training.state import TrainState
from mcl_jax.training.step import StepFunction
from mcl_jax.utils.files import write_atomically
from mcl_jax.utils.pytrees import finite
from mcl_jax.workdir.checkpoints import Checkpoints
from mcl_jax.workdir.retention import Keep

if TYPE_CHECKING:  # benchmarks/gpu.py runs where it is not installed
    from ml_collections import ConfigDict

FOLDER = "nonfinite"

# Batches handed to the devices before the loop waits for the oldest.
_STEPS_IN_FLIGHT = 2

GuardedStep = Callable[[TrainState, jax.Array, dict[str, jax.Array]], tuple[TrainState, jax.Array, Metrics]]


class NonFiniteError(UserError):
    """Updates were not finite, more of them in a row than the config allows.

    Attributes:
        state_is_lost: whether loss or gradient were not finite already, so that the state before gives none.
    """

    def __init__(self, message: str, *, state_is_lost: bool):
        super().__init__(message)
        self.state_is_lost = state_is_lost


def allowed_in_a_row(config: "ConfigDict") -> int:
    """Returns how many updates in a row may be left out before the run stops."""
    return config.train.max_skipped if config.train.on_nonfinite == "skip" else 0


def guarded(train_step: StepFunction, allowed: int) -> GuardedStep:
    """Returns the update, left out where its loss, gradient or result is not finite.

    After more than `allowed` in a row the run is over: nothing changes the state any more, not even its step,
    so that what the host finds, some steps later, is the state before the update that was one too many.

    Args:
        train_step: from `make_train_step`.
        allowed: see `allowed_in_a_row`.

    Returns:
        A function of the state, the number of updates left out in a row (int32 scalar) and a batch, whose
        rows `leave` say whether their host wants to end. The metrics get `left_out`, that number after the
        step, and `leave`, whether any host wants to.
    """

    def guarded_step(
        state: TrainState, left_out: jax.Array, batch: dict[str, jax.Array]
    ) -> tuple[TrainState, jax.Array, Metrics]:
        leave = batch["leave"].any()  # of any host: so all of them learn it at the same step
        updated, metrics = train_step(state, {k: v for k, v in batch.items() if k != "leave"})
        over = left_out > allowed
        # The optimiser's own state is finite where the state before, the gradient and the parameters are.
        seen = (metrics["loss"], metrics["gradient_norm"], updated.params, updated.batch_stats)
        is_finite = finite(seen)
        left_out = jnp.where(over, left_out, jnp.where(is_finite, 0, left_out + 1))
        use = is_finite & ~over
        kept = jax.tree.map(lambda new, old: jnp.where(use, new, old), updated, state)
        step = jnp.where(left_out > allowed, state.step, state.step + 1)
        told = {"left_out": left_out, "leave": leave}
        return dataclasses.replace(kept, step=step), left_out, metrics | told

    return guarded_step


def compile_guarded(step: GuardedStep, mesh: Mesh, compiler_options: dict[str, str]) -> jax.stages.Wrapped:
    """Jits the update: state donated and on every device, rows of the batch split over the mesh."""
    whole, rows = replicated(mesh), split_rows(mesh)

    @functools.wraps(step)
    def split_step(*arguments: Any) -> tuple[TrainState, jax.Array, Metrics]:
        with split_over(mesh):
            return step(*arguments)

    return jax.jit(
        split_step,
        donate_argnums=0,
        in_shardings=(whole, whole, rows),
        out_shardings=(whole, whole, whole),
        compiler_options=compiler_options,
    )


class InFlight:
    """The steps that the devices have not been waited for; what each says is looked at once it is done."""

    def __init__(self, allowed: int):
        """Takes how many updates in a row may be left out."""
        self._allowed = allowed
        self._waiting: deque[tuple[int, Mapping[str, jax.Array]]] = deque()
        self.leave = False  # whether a host wanted to end, at the newest step that was looked at

    def add(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
        """Takes a step that was just handed to the devices, and waits for the oldest if there are many.

        Raises:
            NonFiniteError: if that one was one too many that is not finite.
        """
        self._waiting.append((step, metrics))
        while len(self._waiting) > _STEPS_IN_FLIGHT:
            self._look()

    def settle(self) -> None:
        """Waits for all steps.

        Raises:
            NonFiniteError: if one was one too many that is not finite.
        """
        while self._waiting:
            self._look()

    def _look(self) -> None:
        step, on_device = self._waiting.popleft()
        metrics = jax.device_get(on_device)
        self.leave |= bool(metrics["leave"])
        left_out = int(metrics["left_out"])
        if not left_out:
            return
        loss, norm = float(metrics["loss"]), float(metrics["gradient_norm"])
        found = f"the loss is {loss:.4g} and the norm of its gradient {norm:.4g} at step {step}"
        if math.isfinite(loss) and math.isfinite(norm):
            found += ", but the update is not finite"
        if left_out > self._allowed:
            in_a_row = f", {left_out} in a row" if self._allowed else ""
            raise NonFiniteError(
                found + in_a_row, state_is_lost=not (math.isfinite(loss) and math.isfinite(norm))
            )
        logging.warning("%s: the update is left out (%d in a row)", found, left_out)


def stop(
    error: NonFiniteError,
    config: "ConfigDict",
    workdir: Path,
    state: TrainState,
    block: Mapping[str, Any],
    sequences: Callable[[int], list[str]],
) -> NonFiniteError:
    """Saves into WORKDIR/nonfinite what makes the last update again, and returns the error to end with.

    Args:
        error: what was found.
        config: of the run.
        workdir: of the run.
        state: the one before that update.
        block: the `model` block.
        sequences: function of a step, counted from 0: names of the sequences of its batch.
    """
    folder, step = workdir / FOLDER, int(state.step)
    if jax.process_index() == 0:
        shutil.rmtree(folder, ignore_errors=True)
        report = {"found": str(error), "step": step + 1, "seed": config.seed, "sequences": sequences(step)}
        write_atomically(folder / "report.json", json.dumps(report, indent=1).encode())
    if jax.process_count() > 1:  # else a host could save into what the first is clearing away
        multihost_utils.sync_global_devices(FOLDER)
    with Checkpoints(folder, keep=Keep(1)) as checkpoints:
        checkpoints.save(state, block)
    return NonFiniteError(
        f"{error}; the state before it and the names of its sequences are in {folder}/; the same command "
        f"would come to the same end: {_advice(error, config)}",
        state_is_lost=error.state_is_lost,
    )


def _advice(error: NonFiniteError, config: "ConfigDict") -> str:
    remedies = [f"lower optimizer.lr ({config.optimizer.lr:g} now)"]
    if config.train.precision != "float32":
        remedies.append("set train.precision to float32")
    if not config.optimizer.clip_norm:
        remedies.append("set optimizer.clip_norm, to 10 for instance")
    advice = ", or ".join(remedies) + ", with --accept_changes"
    if config.train.on_nonfinite == "stop":
        advice += "; or set train.on_nonfinite to skip"
    if error.state_is_lost:
        advice += (
            "; if that does not help, its parameters were too large already: remove the newest checkpoints, "
            "to go on from an older one, or use another --workdir"
        )
    return advice


def start_counter() -> np.ndarray:
    """Returns the number of updates left out in a row before the first."""
    return np.zeros((), np.int32)
