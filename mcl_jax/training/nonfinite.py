"""Guards against updates that are not finite: finds them on the device, skips them, never saves them."""

import dataclasses
import functools
import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import Mesh

from mcl_jax.errors import UserError
from mcl_jax.losses.pairwise import Metrics
from mcl_jax.runtime.mesh import replicated, split_rows
from mcl_jax.training.state import TrainState
from mcl_jax.training.step import StepFunction
from mcl_jax.utils.pytrees import finite

# Number of steps handed to the devices before the loop waits for the oldest one.
_STEPS_IN_FLIGHT = 2

GuardedStep = Callable[[TrainState, jax.Array, dict[str, jax.Array]], tuple[TrainState, jax.Array, Metrics]]


class NonFiniteError(UserError):
    """More updates in a row were not finite than the config allows.

    Attributes:
        state_is_lost: whether the loss or gradient was not finite, so that the state before it cannot give a
            finite update.
    """

    def __init__(self, message: str, *, state_is_lost: bool):
        super().__init__(message)
        self.state_is_lost = state_is_lost


def guarded(train_step: StepFunction, allowed: int) -> GuardedStep:
    """Returns an update that is skipped if its loss, gradient or result is not finite.

    After more than `allowed` in a row, the run is over. Nothing changes the state any more, not even its
    step. So some steps later, the host still finds the state before the update that was one too many.

    Args:
        train_step: from `make_train_step`.
        allowed: number of updates in a row that may be skipped before the run stops.

    Returns:
        A function of the state, the number of updates skipped in a row (int32 scalar) and a batch. The
        batch's rows `leave` say whether their host wants to end. The metrics get `left_out`, that number
        after the step, and `leave`, whether any host wants to end.
    """

    def guarded_step(
        state: TrainState, left_out: jax.Array, batch: dict[str, jax.Array]
    ) -> tuple[TrainState, jax.Array, Metrics]:
        leave = batch["leave"].any()  # of any host, so that all hosts know it at the same step
        updated, metrics = train_step(state, {k: v for k, v in batch.items() if k != "leave"})
        over = left_out > allowed
        # The optimiser's state is finite if the old state, the gradient and the parameters are.
        seen = (metrics["loss"], metrics["gradient_norm"], updated.params, updated.batch_stats)
        is_finite = finite(seen)
        left_out = jnp.where(over, left_out, jnp.where(is_finite, 0, left_out + 1))
        use = is_finite & ~over
        kept = jax.tree.map(lambda new, old: jnp.where(use, new, old), updated, state)
        step = jnp.where(left_out > allowed, state.step, state.step + 1)
        metrics = {**metrics, "left_out": left_out, "leave": leave}
        return dataclasses.replace(kept, step=step), left_out, metrics

    return guarded_step


def compile_guarded(step: GuardedStep, mesh: Mesh, compiler_options: dict[str, str]) -> jax.stages.Wrapped:
    """Jits the update: state donated and on every device, rows of the batch split over the mesh."""
    whole, rows = replicated(mesh), split_rows(mesh)

    @functools.wraps(step)
    def split_step(*arguments: Any) -> tuple[TrainState, jax.Array, Metrics]:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return step(*arguments)

    return jax.jit(
        split_step,
        donate_argnums=0,
        in_shardings=(whole, whole, rows),
        out_shardings=(whole, whole, whole),
        compiler_options=compiler_options,
    )


class StepMonitor:
    """Watches the steps running on the devices, and reads the metrics of each when it is done."""

    def __init__(self, allowed: int):
        """Takes the number of updates in a row that may be skipped before the run stops."""
        self._allowed = allowed
        self._under_way: deque[tuple[int, Mapping[str, jax.Array]]] = deque()
        self.leave = False  # whether any host asked to end, at the newest step that was read

    def add(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
        """Adds a step just handed to the devices; waits for the oldest if too many are running.

        Raises:
            NonFiniteError: if the oldest step exceeds the allowed number of non-finite updates.
        """
        self._under_way.append((step, metrics))
        while len(self._under_way) > _STEPS_IN_FLIGHT:
            self._read_oldest()

    def settle(self) -> None:
        """Waits for all steps.

        Raises:
            NonFiniteError: if a step exceeds the allowed number of non-finite updates.
        """
        while self._under_way:
            self._read_oldest()

    def _read_oldest(self) -> None:
        step, on_device = self._under_way.popleft()
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


def start_counter() -> np.ndarray:
    """Returns the initial number of skipped updates: 0."""
    return np.zeros((), np.int32)
