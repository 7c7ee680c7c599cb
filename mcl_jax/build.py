"""Builds datasets, loaders, models and optimisers from a config."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import optax
from absl import logging
from ml_collections import ConfigDict

from mcl_jax.config import frame_sampling, model_block, named_arguments
from mcl_jax.data.datasets import DATASETS, OpenDataset, open_dataset, require_frames
from mcl_jax.data.feed.loaders import HostShare, TrainLoader
from mcl_jax.data.feed.sampling import require_pairs
from mcl_jax.data.sequences import Split
from mcl_jax.embed import Embedder
from mcl_jax.errors import CheckpointError, ConfigError
from mcl_jax.losses import LOSSES
from mcl_jax.models.registry import (
    Model,
    complete_block,
    describe_differences,
    differing,
    model_class,
    model_of,
)
from mcl_jax.runtime.settings import testing_precision
from mcl_jax.training.averaging import averaging
from mcl_jax.training.nonfinite import GuardedStep, guarded
from mcl_jax.training.optimizers import OPTIMIZERS, SCHEDULES, check_groups
from mcl_jax.training.state import TrainState, create_state, start_average
from mcl_jax.training.step import StepFunction, make_train_step
from mcl_jax.utils.pytrees import ArrayTree


@dataclasses.dataclass(frozen=True)
class Optimization:
    """The optimiser of a run and its learning-rate schedule."""

    optimizer: optax.GradientTransformation
    schedule: optax.Schedule


def build_dataset(config: ConfigDict) -> OpenDataset:
    """Lists the sequences that the `data` block of a config names.

    Raises:
        DataError: if they cannot be found.
    """
    data = config.data
    return open_dataset(
        data.dataset, data.root, partition=data.partition, file_format=data.format, file=data.file
    )


def build_train_loader(config: ConfigDict, split: Split) -> TrainLoader:
    """Returns the loader of this host's share of the training batches.

    Raises:
        ConfigError: if the settings cannot work with this split.
        DataError: if the split has no pairs to compare.
    """
    if any(block.weight and LOSSES[name].of == "embeddings" for name, block in config.loss.items()):
        require_pairs(split, config.train.batch)
    return TrainLoader(
        split,
        batch=config.train.batch,
        frames=frame_sampling(config),
        augmentation=config.data.augment,
        seed=config.seed,
        row_sizes=config.train.row_sizes,
        spacing=model_class(config.model.name).SPACING,
        skip_unreadable=config.data.on_error == "skip",
        share=HostShare(
            jax.process_index(), jax.process_count(), jax.device_count(), config.train.accumulate
        ),
    )


def build_train_model(config: ConfigDict, block: Mapping[str, Any], subjects: int) -> Model:
    """Returns the model to train.

    Args:
        config: has the precision and the number of classes.
        block: kind and sizes of the model; see `trained_block`.
        subjects: number of training subjects.

    Raises:
        ConfigError: if there are more subjects than classes, frames are of another size than the model takes,
            or a group of the optimiser has no parameter.
    """
    block = dict(block)
    if "num_classes" in block:
        classes = config.model.num_classes or subjects
        if classes < subjects:
            raise ConfigError(f"model.num_classes: is {classes}, but there are {subjects} training subjects")
        block["num_classes"] = classes
    model = model_of(block, dtype=config.train.precision)
    require_frames(config.data.dataset, model.name, model.frame_shape)
    if groups := config.optimizer.get("groups"):
        check_groups(groups, model.name, model.shapes()[0])
    return model


def build_optimization(config: ConfigDict) -> Optimization:
    """Returns the optimiser and its schedule."""
    schedule = SCHEDULES[config.schedule.name](config.optimizer.lr, **named_arguments(config, "schedule"))
    optimizer = OPTIMIZERS[config.optimizer.name](schedule, **named_arguments(config, "optimizer"))
    return Optimization(optimizer, schedule)


def build_train_step(
    config: ConfigDict, model: Model, optimization: Optimization, *, remat: bool | None = None
) -> StepFunction:
    """Returns the update function for the `train` and `loss` blocks, not yet compiled.

    Args:
        config: config of the run.
        model: model to train.
        optimization: its optimiser.
        remat: overrides `train.remat`; None uses it.
    """
    train_step = make_train_step(
        model,
        optimization.optimizer,
        config.loss.to_dict(),
        remat=config.train.remat if remat is None else remat,
        freeze_batch_norm=config.train.freeze_batch_norm,
        seed=config.seed,
        chunks=config.train.accumulate,
        one=DATASETS[config.data.dataset].pixels.one,
    )
    return averaging(train_step, config.train.ema) if config.train.ema else train_step


def build_state(
    config: ConfigDict, params: ArrayTree, batch_stats: ArrayTree, optimization: Optimization
) -> TrainState:
    """Returns the state before the first update, with averaged weights if the config asks for them."""
    state = create_state(params, batch_stats, optimization.optimizer)
    return start_average(state) if config.train.ema else state


def build_guarded_step(
    config: ConfigDict, model: Model, optimization: Optimization, *, remat: bool | None = None
) -> GuardedStep:
    """Returns the update that skips results that are not finite; see `build_train_step`."""
    train_step = build_train_step(config, model, optimization, remat=remat)
    return guarded(train_step, allowed_nonfinite(config))


def allowed_nonfinite(config: ConfigDict) -> int:
    """Returns how many updates in a row may be skipped before the run stops."""
    return config.train.max_skipped if config.train.on_nonfinite == "skip" else 0


def build_embedder(config: ConfigDict, block: Mapping[str, Any]) -> Embedder:
    """Returns the embedder of a model, with the precision and batch shape of the config's `eval` block."""
    precision = testing_precision(config.eval.precision)
    if precision != config.eval.precision:
        logging.info("testing in %s; set eval.precision for another precision", precision)
    model = model_of(block, dtype=precision)
    return Embedder(model, rows=config.eval.rows, slots=config.eval.slots)


def trained_block(
    config: ConfigDict, stored: Mapping[str, Any], source: str, *, strict: bool
) -> dict[str, Any]:
    """Returns the `model` block to use with stored weights.

    Sizes come from the weights. Options that only select an output of the same arrays (`GaitModule.CHOICES`)
    come from the config. Differences in sizes are listed in an error or a warning.

    Args:
        config: has the expected model.
        stored: the `model` block stored with the weights.
        source: path of the weights, for messages.
        strict: whether other sizes in the config are an error instead of a warning.

    Raises:
        CheckpointError: if the weights belong to another model, or, if `strict`, have other sizes.
    """
    wanted = model_block(config)
    differences = differing(wanted, stored)
    if "name" not in differences:
        choices = model_class(wanted["name"]).CHOICES
        differences = {key: pair for key, pair in differences.items() if key not in choices}
        stored = dict(stored) | {key: wanted[key] for key in choices}
    if differences:
        listed = describe_differences(differences, "the config", "the file")
        if strict:
            raise CheckpointError(f"{source}: {listed}")
        logging.warning("%s: %s; using those of the file", source, listed)
    return complete_block(stored)
