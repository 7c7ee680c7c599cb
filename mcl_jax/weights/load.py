"""Loads trained weights by path or by name, from any format."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging

from mcl_jax.config import load_config, model_block
from mcl_jax.convert.importer import import_weights, load_checkpoint
from mcl_jax.convert.safetensors_reader import SUFFIX as SAFETENSORS
from mcl_jax.errors import CheckpointError
from mcl_jax.hub.fetch import local_copy, published_of
from mcl_jax.hub.published import nearest_names
from mcl_jax.hub.reference import MODEL_FILE
from mcl_jax.models.registry import Model, Weights, model_class
from mcl_jax.utils.pytrees import ArrayTree, get_leaf, leaf_name, leaves_by_name, with_leaf
from mcl_jax.weights.model_file import read_model
from mcl_jax.weights.packed import SHIPPED, SUFFIX, read_packed
from mcl_jax.weights.provenance import plain_recipe, recipe_of_run
from mcl_jax.workdir.checkpoints import AVERAGE, FOLDER, Checkpoints

_SUFFIX = f"@{AVERAGE}"


def load_weights(
    path: str | Path | None, expected: Mapping[str, Any] | None = None, *, partly: bool = False
) -> Weights:
    """Returns the weights of a run or of a file, with the model's name and sizes.

    Args:
        path: the workdir of a run, for its newest undamaged checkpoint; or one of its checkpoints/STEP; with
            @average behind either, the weights averaged over training; or a PyTorch checkpoint of OpenGait;
            or a file or folder that `Gait.save` or `save_pretrained` wrote; or a packed model; or the name of
            one to fetch, see `mcl_jax.hub.fetch.local_copy`; None for the model in the package.
        expected: `model` block of a config, or some arguments of the model, for settings that a PyTorch file
            does not contain: `Counterpart.untold`.
        partly: whether a pre-trained backbone without a head will do.

    Raises:
        CheckpointError: if there are none, they are damaged, or their model is unknown.
    """
    path = SHIPPED if path is None else path
    place = local_copy(path)
    if place == Path(path):
        weights = _read(place, expected, partly=partly)
    else:
        entry = published_of(path)
        config = None if entry is None else load_config(entry.recipe)
        told = {} if config is None else model_block(config)
        try:
            weights = _read(place, {**told, **(expected or {})}, partly=partly)
            weights = dataclasses.replace(weights, source=str(path))
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from None
        if config is not None:
            weights = dataclasses.replace(weights, recipe=plain_recipe(config))
    logging.info("weights of %s, step %d, from %s", weights.block["name"], weights.step, weights.source)
    return weights


def _read(path: Path, expected: Mapping[str, Any] | None, *, partly: bool) -> Weights:
    folder, step = run_of(path)
    if (folder / FOLDER).is_dir():
        with Checkpoints(folder) as checkpoints:
            weights = checkpoints.load_weights(step, average=is_average(path))
        return dataclasses.replace(weights, recipe=recipe_of_run(folder))
    if is_average(path) and folder.exists():
        raise CheckpointError(f"{folder}: has no averaged weights; leave out {_SUFFIX}")
    if (folder / MODEL_FILE).is_file():
        folder = folder / MODEL_FILE
    if folder.is_file() and folder.suffix == SUFFIX:
        return read_packed(folder)
    if folder.is_file() and folder.suffix == SAFETENSORS and (own := read_model(folder)) is not None:
        return own
    if folder.is_file():
        return import_weights(load_checkpoint(folder), str(path), expected, partly=partly)
    nearest = ", ".join(nearest_names(path.name)) if path.name == str(path) else ""
    raise CheckpointError(
        f"{path}: no such run or checkpoint file; give the workdir of a run or a checkpoint file"
        + (f", or the name of a published one, such as {nearest} (mcl-jax pretrained)" if nearest else "")
    )


def is_average(path: str | Path) -> bool:
    """Returns whether a path of weights asks for those averaged over training: RUN@average."""
    return str(path).endswith(_SUFFIX) and not Path(path).exists()


def average_of(path: str | Path) -> str:
    """Returns the path of the averaged weights beside others."""
    return f"{path}{_SUFFIX}"


def run_of(path: str | Path) -> tuple[Path, int | None]:
    """Returns the workdir and the step that a path of weights names; for a file, the file and None."""
    folder = Path(str(path).removesuffix(_SUFFIX) if is_average(path) else path)
    step: int | None = None
    if folder.parent.name == FOLDER and folder.name.isdigit() and folder.is_dir():
        folder, step = folder.parent, int(folder.name)
    if folder.name == FOLDER and folder.is_dir():
        folder = folder.parent
    return folder, step


@dataclasses.dataclass(frozen=True)
class WeightsSource:
    """Origin of weights: the file, the step and the run.

    Attributes:
        path: absolute path of the checkpoint or file.
        step: number of updates that made them.
        run: workdir of the run that trained them; the file for a file.
        is_average: whether they are averaged over training; the path says so, too.
    """

    path: Path
    step: int
    run: Path
    is_average: bool = False


def source_of(path: str | Path, step: int) -> WeightsSource:
    """Returns where the weights of a step come from.

    Args:
        path: see `load_weights`.
        step: number of updates that made the weights.
    """
    run, _ = run_of(path)
    checkpoint = run / FOLDER / str(step) if (run / FOLDER).is_dir() else run
    if is_average(path):
        return WeightsSource(Path(average_of(checkpoint.absolute())), step, run, is_average=True)
    return WeightsSource(checkpoint.absolute(), step, run)


def has_average(source: WeightsSource) -> bool:
    """Returns whether there are averaged weights beside those that were read."""
    if not (source.run / FOLDER).is_dir():
        return False
    with Checkpoints(source.run) as checkpoints:
        return checkpoints.has_average(source.step)


def fit(
    weights: Weights,
    model: Model,
    params: ArrayTree,
    batch_stats: ArrayTree,
    *,
    keep_classifier: bool = True,
) -> tuple[ArrayTree, ArrayTree]:
    """Returns trained arrays to replace a model's initial ones.

    The classifier is left out if it has another number of classes, or was trained on other people. Then the
    model keeps its own.

    Args:
        weights: weights of a model with the same name and sizes.
        model: the model they are for.
        params: its initial parameters.
        batch_stats: its initial statistics.
        keep_classifier: whether the classes are the same people.

    Raises:
        CheckpointError: if the arrays do not fit the model.
    """
    trained = weights.params
    classifier = model_class(model.name).CLASSIFIER
    other_number = weights.block.get("num_classes") != model.arguments.get("num_classes")
    if classifier is not None and (other_number or not keep_classifier):
        why = (
            "its number of classes is not this model's"
            if other_number
            else "its classes are the people it was trained on; --config.train.keep_classifier=True keeps it"
        )
        logging.warning("%s left out: %s", "/".join(map(str, classifier)), why)
        trained = with_leaf(trained, classifier, np.asarray(get_leaf(params, classifier)))
    _check_shapes(weights.source, (trained, weights.batch_stats), (params, batch_stats))
    return trained, weights.batch_stats


def fit_partly(
    weights: Weights,
    model: Model,
    params: ArrayTree,
    batch_stats: ArrayTree,
    *,
    keep_classifier: bool,
) -> tuple[ArrayTree, ArrayTree]:
    """Returns a model's arrays, replaced by trained ones of the same name and shape where there are any.

    The log lists the arrays left over on both sides.

    Args:
        weights: weights of any model.
        model: the model they are for.
        params: its initial parameters.
        batch_stats: its initial statistics.
        keep_classifier: whether the classes are the same people; otherwise the model keeps its classifier.

    Raises:
        CheckpointError: if nothing fits.
    """
    classifier = None if keep_classifier else model_class(model.name).CLASSIFIER
    left_out = "" if classifier is None else "/".join(map(str, classifier))
    fitted: list[ArrayTree] = []
    unused: list[str] = []
    missing: list[str] = []
    count = 0
    for trained, own in ((weights.params, params), (weights.batch_stats, batch_stats)):
        there, here = leaves_by_name(trained), leaves_by_name(own)
        taken = {
            name: there[name]
            for name, leaf in here.items()
            if name != left_out and name in there and there[name].shape == leaf.shape
        }
        unused += [name for name in there if name not in taken]
        missing += [name for name in here if name not in taken]
        count += len(taken)
        fitted.append(jax.tree_util.tree_map_with_path(partial(_taken_or_own, taken), own))
    if not count:
        raise CheckpointError(
            f"{weights.source}: no tensor of {weights.block['name']} fits {model.name}; start without "
            "init_from"
        )
    logging.warning(
        "%s: %d of the %d tensors of %s are taken from it; initial values stay in %s; not used are %s",
        weights.source,
        count,
        count + len(missing),
        model.name,
        _by_layers(missing),
        _by_layers(unused),
    )
    return fitted[0], fitted[1]


def _taken_or_own(taken: Mapping[str, Any], path: tuple[Any, ...], leaf: Any) -> Any:
    return taken.get(leaf_name(path), leaf)


def _by_layers(names: list[str]) -> str:
    """Returns the layers of tensors, each with its number of tensors, or "none"."""
    counts = Counter("/".join(name.split("/")[:2]) for name in names)
    return ", ".join(f"{layer} ({number})" for layer, number in counts.items()) or "none"


def _check_shapes(source: str, trained: tuple[ArrayTree, ...], own: tuple[ArrayTree, ...]) -> None:
    there = {name: tuple(leaf.shape) for name, leaf in leaves_by_name(trained).items()}
    here = {name: tuple(leaf.shape) for name, leaf in leaves_by_name(own).items()}
    for name in sorted(here.keys() | there.keys()):
        if here.get(name) != there.get(name):
            raise CheckpointError(
                f"{source}: {name} is {there.get(name, 'missing')} there and {here.get(name, 'missing')} in "
                "the model it names; it was written by another version, or changed"
            )
