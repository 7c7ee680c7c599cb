"""Checkpoints of a run with Orbax: asynchronous, atomic, and checked against a digest when read back.

Orbax keeps an interrupted save from counting as a checkpoint. What it does not see is damage to a finished
one: one flipped byte restores as wrong numbers. So every checkpoint carries SHA-256 digests, and reading
falls back to the newest one that passes.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np
from absl import logging
from orbax.checkpoint import v1 as ocp

from mcl_jax.errors import CheckpointError
from mcl_jax.train_state import TrainState, Tree

FOLDER = "checkpoints"
DAMAGED_FOLDER = "checkpoints-damaged"


@dataclasses.dataclass(frozen=True)
class Weights:
    """What testing and fine-tuning take from a checkpoint.

    Attributes:
        step: updates behind it.
        params: trained parameters, NumPy.
        batch_stats: running statistics, NumPy.
        model: the config's `model` block, with the number of classes filled in.
    """

    step: int
    params: Tree
    batch_stats: Tree
    model: dict[str, Any]


class Checkpoints:
    """The checkpoints under WORKDIR/checkpoints."""

    def __init__(self, workdir: Path, *, keep: int | None = None):
        """Opens the folder, and makes it if it is missing.

        Args:
            workdir: of the run.
            keep: for the one run that trains there: the newest checkpoints to keep; what an interrupted save
                left is cleared away. None deletes nothing: another process may be saving there right now.
        """
        policies = ocp.training.preservation_policies
        self._workdir = workdir.absolute()
        self._checkpointer = ocp.training.Checkpointer(
            self._workdir / FOLDER,
            # The training loop decides when.
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=policies.PreserveAll() if keep is None else policies.LatestN(keep),
            cleanup_tmp_directories=keep is not None,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._checkpointer.close()

    def save(self, state: TrainState, model: Mapping[str, Any]) -> None:
        """Starts saving a state under its step; the state may be donated at once.

        Args:
            state: on this machine's devices, whole on each.
            model: the config's `model` block, with the number of classes filled in.
        """
        step = int(state.step)
        if step in self._steps():
            return
        host_state = jax.device_get(state)
        self._checkpointer.save_async(
            step, state, custom_metadata={"digests": _digests(host_state), "model": _plain(model)}
        )

    def restore(self, template: TrainState) -> TrainState | None:
        """Returns the newest undamaged state, or None if there is no checkpoint.

        Damaged newer ones are moved to WORKDIR/checkpoints-damaged, so that those steps can be saved again.

        Args:
            template: a state of the same structure; shapes, types and shardings are taken from it.

        Raises:
            CheckpointError: if every checkpoint is damaged, or made for another model or optimiser.
        """
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), template
        )
        damaged: list[int] = []
        for step in self._steps():
            metadata = self._metadata(step)
            if metadata is not None:
                self._check_structure(step, metadata.metadata, template)
                try:
                    state = self._checkpointer.load(step, abstract)
                except Exception as error:  # what damage raises depends on where it is
                    logging.warning("checkpoint %d: %s", step, _first_line(error))
                else:
                    if _digests(jax.device_get(state)) == metadata.custom_metadata["digests"]:
                        self._set_aside(damaged)
                        return state
            logging.warning("checkpoint %d is damaged; trying the one before it", step)
            damaged.append(step)
        if damaged:
            raise CheckpointError(
                f"{self._workdir / FOLDER}: all checkpoints ({damaged}) are damaged; "
                "restore the folder from a copy, or remove it to start again"
            )
        return None

    def load_weights(self) -> Weights:
        """Returns the newest undamaged parameters and statistics, whatever optimiser they were trained with.

        Raises:
            CheckpointError: if there is no undamaged checkpoint.
        """
        steps = self._steps()
        for step in steps:
            metadata = self._metadata(step)
            if metadata is not None:
                device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
                abstract = jax.tree.map(
                    lambda x, device=device: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device),
                    metadata.metadata,
                )
                try:
                    raw = jax.device_get(self._checkpointer.load(step, abstract))
                except Exception as error:  # what damage raises depends on where it is
                    logging.warning("checkpoint %d: %s", step, _first_line(error))
                else:
                    expected = metadata.custom_metadata["digests"]
                    if all(_digest(raw[part]) == expected[part] for part in ("params", "batch_stats")):
                        params, batch_stats = (_integer_keys(raw[p]) for p in ("params", "batch_stats"))
                        return Weights(step, params, batch_stats, metadata.custom_metadata["model"])
            logging.warning("checkpoint %d is damaged; trying the one before it", step)
        if steps:
            raise CheckpointError(f"{self._workdir / FOLDER}: all checkpoints ({steps}) are damaged")
        raise CheckpointError(
            f"{self._workdir}: no checkpoint there; train first, or set --config.init_from to a checkpoint"
        )

    def _steps(self) -> list[int]:
        return sorted((c.step for c in self._checkpointer.checkpoints), reverse=True)

    def _metadata(self, step: int) -> Any:
        try:
            metadata = self._checkpointer.metadata(step)
            # Orbax reports some damage as a missing part, not as an error.
            if metadata.metadata is not None and {"digests", "model"} <= set(metadata.custom_metadata or ()):
                return metadata
        except Exception as error:  # what damage raises depends on where it is
            logging.warning("checkpoint %d: %s", step, _first_line(error))
        return None

    def _check_structure(self, step: int, stored: Any, template: TrainState) -> None:
        here = {path: tuple(x.shape) for path, x in _leaves(template).items()}
        there = {path: tuple(x.shape) for path, x in _leaves(stored).items()}
        for path in sorted(here.keys() | there.keys()):
            if here.get(path) != there.get(path):
                raise CheckpointError(
                    f"{self._workdir / FOLDER / str(step)}: {path} is {there.get(path, 'missing')} there and "
                    f"{here.get(path, 'missing')} in this config; use another --workdir, or "
                    "--config.init_from to start from its weights"
                )

    def _set_aside(self, steps: list[int]) -> None:
        for step in steps:
            target = self._workdir / DAMAGED_FOLDER
            target.mkdir(exist_ok=True)
            (self._workdir / FOLDER / str(step)).rename(target / str(step))
        if steps:
            logging.warning("moved damaged checkpoints %s to %s", steps, self._workdir / DAMAGED_FOLDER)
            self._checkpointer.reload()


def _digests(state: TrainState) -> dict[str, str]:
    """Returns a digest of each part of a state on the host."""
    fields = [field.name for field in dataclasses.fields(state)]
    return {name: _digest(getattr(state, name)) for name in fields}


def _digest(tree: Any) -> str:
    sha = hashlib.sha256()
    for path, leaf in sorted(_leaves(tree).items()):
        array = np.ascontiguousarray(leaf)
        sha.update(f"{path} {array.dtype} {array.shape}\n".encode())
        sha.update(array.data)
    return sha.hexdigest()


def _leaves(tree: Any) -> dict[str, Any]:
    """Returns the leaves by a path that is the same before saving and in Orbax's own nested dicts."""
    return {
        "/".join(str(jax.tree_util.keystr((key,), simple=True)) for key in path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _integer_keys(tree: Any) -> Any:
    # Orbax stores the integer keys of module lists as text.
    if not isinstance(tree, dict):
        return tree
    return {int(key) if key.isdigit() else key: _integer_keys(value) for key, value in tree.items()}


def _plain(model: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in model.items()}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
