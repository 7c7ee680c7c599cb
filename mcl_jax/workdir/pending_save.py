"""A save in progress: waits for it, repeats it if the disk was away, and cleans up."""

from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from mcl_jax.training.state import TrainState
from mcl_jax.utils.retry import retried


class PendingSave:
    """A save in progress.

    Orbax gives every save a thread with its own event loop. They end only when the result is requested. So
    this keeps the response and requests its result, whether the save succeeded or not.
    """

    def __init__(
        self, checkpointer: ocp.training.Checkpointer, step: int, name: str, metadata: dict[str, Any]
    ):
        """Takes the arguments that all tries share; `start` begins the first try.

        Args:
            checkpointer: Orbax's checkpointer.
            step: step of the state.
            name: name of the checkpoint, for the log line about a retry.
            metadata: metadata to save with it.
        """
        self._checkpointer, self._step, self._name, self._metadata = checkpointer, step, name, metadata
        self._response: ocp.AsyncResponse[bool] | None = None
        self._again: tuple[TrainState, Any] | None = None

    def start(self, state: TrainState, host_state: TrainState | None) -> None:
        """Starts saving a state, which may be donated at once.

        Args:
            state: the state on the devices.
            host_state: a copy on the host for retries; None if hosts must not retry alone.
        """
        if host_state is None:
            self._save(state)
            return
        # An imported state has NumPy arrays, which are on no device.
        first = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        shardings = jax.tree.map(lambda x: getattr(x, "sharding", first), state)
        # On the CPU, host arrays share memory with device arrays.
        self._again = jax.tree.map(np.array, host_state), shardings
        retried(self._name, lambda: self._save(state))

    def settle(self) -> None:
        """Waits until the checkpoint is on disk.

        Raises:
            Exception: the error that prevented it.
        """
        if self._again is None:
            self._wait()
        else:
            retried(self._name, self._settle_alone)

    def _settle_alone(self) -> None:
        assert self._again is not None
        if self._response is None:  # the last try failed
            self._save(jax.device_put(*self._again))
        self._wait()

    def _save(self, state: TrainState) -> None:
        self._response = self._checkpointer.save_async(self._step, state, custom_metadata=self._metadata)

    def _wait(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.result()
