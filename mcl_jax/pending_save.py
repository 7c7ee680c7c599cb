"""A checkpoint that is being saved, kept until it is on disk, so that it can be saved again."""

import dataclasses
from typing import Any, Self

import jax
import numpy as np

from mcl_jax.train_state import TrainState


@dataclasses.dataclass(frozen=True)
class PendingSave:
    """What is needed to save a checkpoint again.

    Attributes:
        step: it is of.
        arrays: its state, on the host.
        shardings: where the arrays lay, or a device of this host for those that lay on none.
        metadata: saved beside it.
    """

    step: int
    arrays: TrainState
    shardings: Any
    metadata: dict[str, Any]

    @classmethod
    def of(cls, step: int, state: TrainState, host_state: TrainState, metadata: dict[str, Any]) -> Self:
        """Takes a state that may be donated afterwards, and what it is on the host."""
        # An imported state has NumPy's arrays, which lie on no device.
        first = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        shardings = jax.tree.map(lambda x: getattr(x, "sharding", first), state)
        # On the CPU the host's arrays are the device's.
        return cls(step, jax.tree.map(np.array, host_state), shardings, metadata)

    def state(self) -> TrainState:
        """Returns the state on its devices."""
        return jax.device_put(self.arrays, self.shardings)
