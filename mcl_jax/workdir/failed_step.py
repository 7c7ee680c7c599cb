"""Saves the state before a non-finite update, and its sequences' names, so that it can be reproduced."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from mcl_jax.training.nonfinite import NonFiniteError
from mcl_jax.training.state import TrainState
from mcl_jax.utils.files import write_atomically
from mcl_jax.workdir.checkpoints import Checkpoints
from mcl_jax.workdir.retention import Keep

FOLDER = "nonfinite"


def save_failed_step(
    error: NonFiniteError,
    config: ConfigDict,
    workdir: Path,
    state: TrainState,
    block: Mapping[str, Any],
    sequences: Callable[[int], list[str]],
) -> NonFiniteError:
    """Saves the failed update to WORKDIR/nonfinite, and returns the error that ends the run.

    Args:
        error: the error that was found.
        config: config of the run.
        workdir: folder of the run.
        state: the state before that update.
        block: the `model` block.
        sequences: returns the names of the sequences in the batch of a step, counted from 0.
    """
    folder, step = workdir / FOLDER, int(state.step)
    if jax.process_index() == 0:
        shutil.rmtree(folder, ignore_errors=True)
        report = {"found": str(error), "step": step + 1, "seed": config.seed, "sequences": sequences(step)}
        write_atomically(folder / "report.json", json.dumps(report, indent=1).encode())
    if jax.process_count() > 1:  # otherwise a host could save into the folder while the first one clears it
        multihost_utils.sync_global_devices(FOLDER)
    with Checkpoints(folder, keep=Keep(1)) as checkpoints:
        checkpoints.save(state, block)
    return NonFiniteError(
        f"{error}; the state before it and the names of its sequences are in {folder}/; running the same "
        f"command would fail again: {_advice(error, config)}",
        state_is_lost=error.state_is_lost,
    )


def _advice(error: NonFiniteError, config: ConfigDict) -> str:
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
            "; if that does not help, the parameters were already too large: remove the newest checkpoints "
            "to continue from an older one, or use another --workdir"
        )
    return advice
