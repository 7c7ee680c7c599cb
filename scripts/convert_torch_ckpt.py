"""Imports a PyTorch checkpoint of OpenGait as the folder of a run, or exports a run back.

python scripts/convert_torch_ckpt.py --config configs/X.py --ckpt F.pt --out DIR [--with-optimizer]
python scripts/convert_torch_ckpt.py --to-torch --ckpt DIR --out F.pt
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from mcl_jax.checkpoint import FOLDER, Checkpoints
from mcl_jax.command_line import exit_code, parse_flags
from mcl_jax.config import model_arguments, validate
from mcl_jax.convert.importer import (
    ImportedModel,
    TorchCheckpoint,
    export_state_dict,
    import_state_dict,
    load_checkpoint,
)
from mcl_jax.convert.optimizer import compare_recipe, import_optimizer, schedule_position
from mcl_jax.convert.sizes import compare_sizes, read_sizes
from mcl_jax.convert.torch_writer import write_torch_file
from mcl_jax.errors import CheckpointError, ConfigError
from mcl_jax.optim import make_optimizer, multi_step
from mcl_jax.train_state import TrainState, create_model, create_state

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file of the model.", lock_config=True)
_CKPT = flags.DEFINE_string("ckpt", None, "What to convert: a PyTorch file; with --to-torch, a run's folder.")
_OUT = flags.DEFINE_string("out", None, "Where to write: a new folder; with --to-torch, a file.")
_WITH_OPTIMIZER = flags.DEFINE_bool(
    "with-optimizer", False, "Import momentum, schedule and iteration too, to go on training at that step."
)
_TO_TORCH = flags.DEFINE_bool("to-torch", False, "Export instead.")

# In the stored model block: batches that PyTorch's batch norms have counted beyond the state's own steps.
_UNCOUNTED = "torch_batches"


def import_checkpoint(config: ConfigDict, path: Path, out: Path, *, with_optimizer: bool) -> None:
    """Writes a PyTorch checkpoint as the first checkpoint of a run.

    Raises:
        CheckpointError: the file is damaged or does not fit the config, or `out` is taken.
    """
    if (out / FOLDER).exists():
        raise CheckpointError(f"{out}: already holds checkpoints; choose a new --out")
    checkpoint = load_checkpoint(path)
    sizes = read_sizes(checkpoint.state_dict)
    differences = compare_sizes(sizes, config.model)
    if differences:
        raise CheckpointError(f"{path}: " + "; ".join(differences))
    num_classes = config.model.num_classes or sizes.get("num_classes", 0)
    try:
        imported = _import_model(config, checkpoint, num_classes)
        state = _make_state(config, checkpoint, imported, with_optimizer=with_optimizer)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error

    stored = {
        **config.model,
        "num_classes": num_classes,
        _UNCOUNTED: imported.counted_steps - int(state.step),
    }
    out.mkdir(parents=True, exist_ok=True)
    with Checkpoints(out) as checkpoints:
        checkpoints.save(state, stored)
    _report(
        model=f"{config.model.name} {model_arguments(config.model, num_classes)}",
        parameters=f"{imported.parameters:,}",
        classes=num_classes or "none",
        iteration=f"{checkpoint.iteration}" + ("" if with_optimizer else " (a run there starts at step 0)"),
        optimizer="imported" if with_optimizer else "left out",
        sha256=checkpoint.digest,
        written=out,
    )


def export_checkpoint(folder: Path, out: Path) -> None:
    """Writes the newest checkpoint of a run as a PyTorch file.

    Raises:
        CheckpointError: there is no undamaged checkpoint.
    """
    with Checkpoints(folder) as checkpoints:
        weights = checkpoints.load_weights()
    name = weights.model["name"]
    batches = weights.step + weights.model.get(_UNCOUNTED, 0)
    state_dict = export_state_dict(weights.params, weights.batch_stats, model=name, steps=batches)
    write_torch_file(out, {"model": state_dict, "iteration": weights.step})
    _report(model=name, tensors=len(state_dict), iteration=weights.step, written=out)


def _import_model(config: ConfigDict, checkpoint: TorchCheckpoint, num_classes: int) -> ImportedModel:
    name = config.model.name
    model = create_model(name, model_arguments(config.model, num_classes), dtype="float32")
    shapes = jax.eval_shape(lambda: model.initial_arrays(0))  # every array is about to be replaced
    return import_state_dict(checkpoint.state_dict, *shapes, model=name)


def _make_state(
    config: ConfigDict, checkpoint: TorchCheckpoint, imported: ImportedModel, *, with_optimizer: bool
) -> TrainState:
    settings = config.optimizer
    schedule = multi_step(settings.lr, settings.milestones, settings.gamma)
    optimizer = make_optimizer(
        settings.name, schedule, momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    state = create_state(imported.params, imported.batch_stats, optimizer)
    if not with_optimizer:
        return state
    opt_state = import_optimizer(checkpoint, state.opt_state, imported.params, model=config.model.name)
    expected = {
        "lr": float(schedule(schedule_position(checkpoint))),
        "momentum": settings.momentum,
        "weight_decay": settings.weight_decay,
    }
    for line in compare_recipe(checkpoint, expected):
        print(f"note: {line}; training goes on with the config's", file=sys.stderr)
    step = jnp.asarray(checkpoint.iteration, state.step.dtype)
    return dataclasses.replace(state, step=step, opt_state=opt_state)


def _report(**lines: Any) -> None:
    for key, value in lines.items():
        print(f"{key:<10} {value}")


def run(argv: Sequence[str]) -> None:
    """Converts as the flags say.

    Raises:
        UserError: for anything the user can mend.
    """
    parse_flags(argv)
    logging.set_verbosity(logging.WARNING)
    if not _CKPT.value or not _OUT.value:
        raise ConfigError("--ckpt and --out are needed: what to convert, and where to write it")
    if _TO_TORCH.value:
        export_checkpoint(Path(_CKPT.value), Path(_OUT.value))
        return
    if _CONFIG.value is None:
        raise ConfigError("--config is missing: the config of the model that the file holds")
    validate(_CONFIG.value)
    import_checkpoint(
        _CONFIG.value, Path(_CKPT.value), Path(_OUT.value), with_optimizer=_WITH_OPTIMIZER.value
    )


if __name__ == "__main__":
    sys.exit(exit_code(lambda: run(sys.argv)))
