"""Imports a PyTorch checkpoint as the folder of a run, and exports a run as a checkpoint."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from mcl_jax.build import build_optimization
from mcl_jax.config import model_block
from mcl_jax.convert.importer import (
    TorchCheckpoint,
    export_state_dict,
    import_weights,
    load_checkpoint,
)
from mcl_jax.convert.optimizer import compare_recipe, import_optimizer, schedule_position
from mcl_jax.convert.safetensors_reader import SUFFIX as SAFETENSORS
from mcl_jax.convert.safetensors_writer import write_safetensors
from mcl_jax.convert.torch_writer import write_torch_file
from mcl_jax.errors import CheckpointError
from mcl_jax.models.registry import Weights, describe_differences, differing
from mcl_jax.training.optimizers import rate_of_group
from mcl_jax.training.state import TrainState, create_state
from mcl_jax.utils.pytrees import count_numbers
from mcl_jax.workdir.checkpoints import FOLDER, Checkpoints


def import_run(config: ConfigDict, path: Path, out: Path, *, with_optimizer: bool) -> dict[str, Any]:
    """Writes a PyTorch checkpoint as the first checkpoint of a run.

    Args:
        config: config of the run, with the expected model and the optimiser for further training.
        path: the PyTorch file.
        out: folder of the run.
        with_optimizer: whether to import momentum, schedule and iteration too.

    Returns:
        A summary for the user.

    Raises:
        CheckpointError: if the file is damaged or does not fit the config, or `out` has checkpoints already.
    """
    if (out / FOLDER).exists():
        raise CheckpointError(f"{out}: already has checkpoints; choose a new --out")
    checkpoint = load_checkpoint(path)
    weights = import_weights(checkpoint, str(path), model_block(config))
    if differences := differing(model_block(config), weights.block):
        listed = describe_differences(differences, "the config", "the file")
        raise CheckpointError(f"{path}: {listed}")
    try:
        state = _make_state(config, checkpoint, weights, with_optimizer=with_optimizer)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    batches = weights.step + weights.uncounted_batches
    out.mkdir(parents=True, exist_ok=True)
    with Checkpoints(out) as checkpoints:
        checkpoints.save(state, weights.block, uncounted_batches=batches - int(state.step))
    sizes = {key: value for key, value in weights.block.items() if key != "name"}
    return {
        "model": f"{weights.block['name']} {sizes}",
        "parameters": f"{count_numbers(weights.params):,}",
        "classes": sizes.get("num_classes", "none"),
        "iteration": f"{checkpoint.iteration}"
        + ("" if with_optimizer else " (the imported run starts at step 0)"),
        "optimizer": "imported" if with_optimizer else "left out",
        "sha256": checkpoint.digest,
        "written": out,
    }


def export_weights(weights: Weights, out: Path) -> dict[str, Any]:
    """Writes weights under OpenGait's names: as safetensors if `out` ends in .safetensors, else for PyTorch.

    Returns:
        A summary for the user.
    """
    name, batches = weights.block["name"], weights.step + weights.uncounted_batches
    state_dict = export_state_dict(weights.params, weights.batch_stats, model=name, steps=batches)
    if out.suffix == SAFETENSORS:
        write_safetensors(out, state_dict, {"format": "pt", "iteration": str(weights.step)})
    else:
        write_torch_file(out, {"model": state_dict, "iteration": weights.step})
    return {"model": name, "tensors": len(state_dict), "iteration": weights.step, "written": out}


def _make_state(
    config: ConfigDict, checkpoint: TorchCheckpoint, weights: Weights, *, with_optimizer: bool
) -> TrainState:
    settings, optimization = config.optimizer, build_optimization(config)
    groups = ("", 1.0, 1.0), *settings.get("groups", ())
    state = create_state(weights.params, weights.batch_stats, optimization.optimizer)
    if not with_optimizer:
        return state
    opt_state = import_optimizer(checkpoint, state.opt_state, weights.params, model=weights.block["name"])
    position = schedule_position(checkpoint)
    expected = {
        "lr": [rate_of_group(optimization.schedule, position, rate) for _, rate, _ in groups],
        "momentum": [settings.get("momentum", 0.0)],
        "weight_decay": [settings.weight_decay * decay for _, _, decay in groups],
    }
    for line in compare_recipe(checkpoint, expected):
        print(f"note: {line}; training continues with the config's", file=sys.stderr)
    step = jnp.asarray(checkpoint.iteration, state.step.dtype)
    return dataclasses.replace(state, step=step, opt_state=opt_state)
