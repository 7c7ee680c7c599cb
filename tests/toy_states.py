"""Training states of a tiny model, and checkpoints of them."""

import functools
from pathlib import Path

import jax
import numpy as np

from mcl_jax.models.registry import create_model
from mcl_jax.runtime.mesh import data_mesh, replicated
from mcl_jax.training.optimizers import multi_step, sgd
from mcl_jax.training.state import AveragedState, TrainState, create_state, with_average
from mcl_jax.workdir.checkpoints import Checkpoints
from mcl_jax.workdir.retention import Keep

MODEL = {"name": "gaitbase", "channels": (2, 2, 2, 2), "num_classes": 3}


@functools.cache
def initial_state(embed_dim: int) -> TrainState:
    arguments = {"channels": (2, 2, 2, 2), "embed_dim": embed_dim, "num_classes": 3}
    model = create_model("gaitbase", arguments, dtype="float32")
    optimizer = sgd(multi_step(0.1), weight_decay=0.0)
    return jax.device_get(create_state(*model.initial_arrays(0), optimizer))


def make_state(step: int, embed_dim: int = 4) -> TrainState:
    state = jax.tree.map(lambda x: x + np.asarray(step, x.dtype), initial_state(embed_dim))
    return jax.device_put(state, replicated(data_mesh()))


def make_averaged(step: int) -> AveragedState:
    """A state whose average is of other numbers than its weights."""
    other = make_state(step + 1)
    return with_average(make_state(step), {"params": other.params, "batch_stats": other.batch_stats})


def assert_equal(a: TrainState, b: TrainState) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.array_equal(x, y)


def save(workdir: Path, *steps: int, keep: int = 9, every: int = 0) -> None:
    with Checkpoints(workdir, keep=Keep(keep, every)) as checkpoints:
        for step in steps:
            checkpoints.save(make_state(step), MODEL)


def restore(workdir: Path) -> TrainState | None:
    with Checkpoints(workdir, keep=Keep(9)) as checkpoints:
        return checkpoints.restore(make_state(0))
