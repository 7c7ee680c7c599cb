"""Places arrays on devices: the rows of a batch are split, all other arrays are copied to each."""

from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

DATA_AXIS = "data"


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Returns the one-axis mesh over the given devices; by default over all, of all hosts."""
    devices = jax.devices() if devices is None else devices
    # Auto: the compiler adds the communication that batch statistics and pairwise losses need.
    return jax.make_mesh((len(devices),), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of arrays that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def split_rows(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of arrays whose first axis is rows."""
    return NamedSharding(mesh, PartitionSpec(DATA_AXIS))


def put_rows(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Joins every host's own rows of a batch to global arrays."""
    sharding = split_rows(mesh)
    with jax.transfer_guard("allow"):  # intended here, which JAX cannot know with several hosts
        return {key: jax.make_array_from_process_local_data(sharding, rows) for key, rows in batch.items()}
