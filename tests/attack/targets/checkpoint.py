"""A checkpoint of a run, and the records beside it."""

import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mcl_jax.config import load_config
from mcl_jax.errors import UserError
from mcl_jax.models.registry import create_model
from mcl_jax.runtime.mesh import data_mesh, replicated
from mcl_jax.training.optimizers import multi_step, sgd
from mcl_jax.training.state import TrainState, create_state
from mcl_jax.weights.load import load_weights
from mcl_jax.workdir.checkpoints import Checkpoints
from mcl_jax.workdir.history import changes, record_stretch
from mcl_jax.workdir.retention import Keep, best, note_scores
from mcl_jax.workdir.saved_config import STRETCHES
from targets.base import Stored

SIZES: dict[str, Any] = {"channels": (2, 2, 2, 2), "embed_dim": 4, "num_classes": 3}
CONFIG = "walkers_mcl"


def toy_state() -> TrainState:
    """Returns a state of which no program is compiled: that would take most of the time of a try."""
    model = create_model("gaitbase", SIZES, dtype="float32")
    optimizer = sgd(multi_step(0.1), weight_decay=0.0)
    shapes = jax.eval_shape(lambda: create_state(*model.initial_arrays(0), optimizer))
    state = jax.tree.map(lambda x: np.arange(x.size).reshape(x.shape).astype(x.dtype), shapes)
    return jax.device_put(state, replicated(data_mesh()))


def digest(tree: Any) -> str:
    """Returns a digest of all arrays of a tree, with where they are in it."""
    sha = hashlib.sha256(str(jax.tree.structure(tree)).encode())
    for leaf in jax.tree.leaves(tree):
        array = np.ascontiguousarray(leaf)
        sha.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    return sha.hexdigest()


class Weights(Stored):
    harm_is = "bits of every file of a checkpoint, read for a test"
    mebibytes = 4096
    seconds = 60

    def make(self, folder: Path) -> None:
        with Checkpoints(folder, keep=Keep(9)) as checkpoints:
            checkpoints.save(toy_state(), {"name": "gaitbase", **SIZES})

    def answer(self, folder: Path) -> str:
        weights = load_weights(folder)
        found = digest((weights.params, weights.batch_stats))
        return f"{found} {weights.step} {weights.block} {weights.thresholds}"


class Resumed(Weights):
    harm_is = "bits of every file of a checkpoint, read to go on"

    def answer(self, folder: Path) -> str:
        with Checkpoints(folder, keep=Keep(9)) as checkpoints:
            state = checkpoints.restore(toy_state())
            return digest(state)


class Journal(Stored):
    """What a run was made with, which is compared before it goes on; a record of it is no secret."""

    harm_is = f"bits of {STRETCHES} and best.json"
    mebibytes = 4096

    def make(self, folder: Path) -> None:
        record_stretch(load_config(CONFIG), folder, 0, [])
        note_scores(folder, "NM/Rank-1", 10, {"NM": {"Rank-1": 81.5}})

    def answer(self, folder: Path) -> str:
        if changes(load_config(CONFIG), folder):
            raise UserError("another config")
        found = best(folder)
        if not found:  # the run goes on without it, after a line of the log
            raise UserError("best.json is left aside")
        return str(found)
