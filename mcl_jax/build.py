"""Builds datasets, loaders, models and optimisers from a config."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import optax
from absl import logging
from ml_collections import ConfigDict

from mcl_jax.config import frame_sampling, model_block, named_arguments
from mcl_jax.data.datasets import DATASETS, OpenDataset, open_dataset
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
from mcl_jax.training.nonfinite import GuardedStep, guarded
from mcl_jax.training.optimizers import OPTIMIZERS, SCHEDULES
from mcl_jax.training.step import StepFunction, make_train_step


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
        DataError: if the split has nothing to compare.
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
        share=HostShare(jax.process_index(), jax.process_count(), jax.device_count()),
    )


def build_train_model(config: ConfigDict, block: Mapping[str, Any], subjects: int) -> Model:
    """Returns the model to train.

    Args:
        config: its precision and number of classes are used.
        block: which model; see `trained_block`.
        subjects: how many there are to train on.

    Raises:
        ConfigError: if there are more subjects than classes.
    """
    block = dict(block)
    if "num_classes" in block:
        classes = config.model.num_classes or subjects
        if classes < subjects:
            raise ConfigError(f"model.num_classes: is {classes}, but there are {subjects} training subjects")
        block["num_classes"] = classes
    return model_of(block, dtype=config.train.precision)


def build_optimization(config: ConfigDict) -> Optimization:
    """Returns the optimiser and its schedule."""
    schedule = SCHEDULES[config.schedule.name](config.optimizer.lr, **named_arguments(config, "schedule"))
    optimizer = OPTIMIZERS[config.optimizer.name](schedule, **named_arguments(config, "optimizer"))
    return Optimization(optimizer, schedule)


def build_train_step(
    config: ConfigDict, model: Model, optimization: Optimization, *, remat: bool | None = None
) -> StepFunction:
    """Returns the update as the `train` and `loss` blocks say, not yet compiled.

    Args:
        config: of the run.
        model: to train.
        optimization: its optimiser.
        remat: in place of `train.remat`; None for that.
    """
    return make_train_step(
        model,
        optimization.optimizer,
        config.loss.to_dict(),
        remat=config.train.remat if remat is None else remat,
        freeze_batch_norm=config.train.freeze_batch_norm,
        seed=config.seed,
        one=DATASETS[config.data.dataset].pixels.one,
    )


def build_guarded_step(
    config: ConfigDict, model: Model, optimization: Optimization, *, remat: bool | None = None
) -> GuardedStep:
    """Returns the update that skips results that are not finite; see `build_train_step`."""
    train_step = build_train_step(config, model, optimization, remat=remat)
    return guarded(train_step, allowed_nonfinite(config))


def allowed_nonfinite(config: ConfigDict) -> int:
    """Returns how many updates in a row may be left out before the run stops."""
    return config.train.max_skipped if config.train.on_nonfinite == "skip" else 0


def build_embedder(config: ConfigDict, block: Mapping[str, Any]) -> Embedder:
    """Returns the embedder of a model, with the precision and batch shape of the config's `eval` block."""
    precision = testing_precision(config.eval.precision)
    if precision != config.eval.precision:
        logging.info("testing in %s; eval.precision is the key for another", precision)
    model = model_of(block, dtype=precision)
    return Embedder(model, rows=config.eval.rows, slots=config.eval.slots)


def trained_block(
    config: ConfigDict, stored: Mapping[str, Any], source: str, *, strict: bool
) -> dict[str, Any]:
    """Returns the `model` block to use with weights that say which model they are of.

    Sizes are those of the weights; what only chooses what comes out of the same arrays
    (`GaitModule.CHOICES`) is as the config says. Differences in sizes are listed.

    Args:
        config: says which model is expected.
        stored: the block that the weights have been stored with.
        source: where they come from, for messages.
        strict: whether a config with other sizes is an error rather than a warning.

    Raises:
        CheckpointError: if the weights are of another model, or of other sizes where that is an error.
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
        logging.warning("%s: %s; going on with the file's", source, listed)
    return complete_block(stored)
