"""Tensor names, sizes and settings shared by several OpenGait models.

Each model's own file combines them in a `Counterpart`.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcl_jax.convert.mapping import STEPS_SUFFIX, Entry
from mcl_jax.convert.yaml_settings import Settings
from mcl_jax.utils.pytrees import ArrayTree, TreePath

StateDict = Mapping[str, np.ndarray]

CLASSIFIER = "BNNecks.fc_bin"
"""The only tensor whose shape depends on the number of classes, [parts, channels, classes]."""


@dataclass(frozen=True)
class Counterpart:
    """An OpenGait model, and how it maps to the model in mcl_jax.

    Attributes:
        title: its name in OpenGait's configs, `model_cfg.model`.
        marks: names of tensors that identify it: a `state_dict` of this model has one of them, and those of
            other models have none.
        entries: function of mcl_jax's parameters; yields its tensors in the order in which OpenGait registers
            them. A residual block has a projection exactly if mcl_jax's parameters have one.
        sizes: function of a `state_dict`; returns the arguments that can be read from shapes, None for an
            argument whose tensors are missing.
        block: function of `model_cfg` and OpenGait's name of the dataset; returns the arguments, and takes
            out every setting.
        untold: arguments that change the computation but cannot be read from arrays (only the sum of `bins`
            can).
        guess: function of the sizes; returns those of `untold` that differ from the defaults in published
            runs with these sizes.
        head: the tensor whose first axis is the parts, for a model with bins in `untold`.
        branches: number of parts for each strip of these bins.
        without: prefixes of tensor names that a `state_dict` of this model never has, to distinguish it from
            a model with the same marks.
        groups: parameter groups of its optimiser, as in `optimizer.groups` of a config.
        own_schedule: whether its learning rate always follows a cosine up to `trainer_cfg.T_max_iter`,
            independent of a config's scheduler.
        group: function of a parameter's name; returns the number of its group. OpenGait's optimiser numbers
            parameters group by group. Groups with a rate of 0 may be missing, starting with the first.
        rates: function of `model_cfg`; takes out the learning rates in it, and returns them by patterns of
            mcl_jax's parameter names.
        pretrained_beside: for a model that starts from a pre-trained backbone without a head, the prefix of
            the other network's names in the files of pre-training; "" for other models.
    """

    title: str
    marks: tuple[str, ...]
    entries: Callable[[ArrayTree], Iterator[Entry]]
    sizes: Callable[[StateDict], dict[str, Any]]
    block: Callable[[Settings, str], dict[str, Any]]
    untold: tuple[str, ...] = ()
    guess: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda sizes: {}
    head: str = "FCs.fc_bin"
    branches: int = 1
    without: tuple[str, ...] = ()
    group: Callable[[str], int] = lambda name: 0
    groups: tuple[tuple[str, float, float], ...] = ()
    own_schedule: bool = False
    rates: Callable[[Settings], dict[str, float]] = lambda model: {}
    pretrained_beside: str = ""


# Tensors.


def conv(name: str, path: TreePath, axes: int = 4) -> Iterator[Entry]:
    """Yields the kernel of a convolution, which has `axes` axes in PyTorch."""
    yield Entry(f"{name}.weight", "params", (*path, "kernel"), axes)


def norm(name: str, path: TreePath) -> Iterator[Entry]:
    """Yields the tensors of a batch normalisation."""
    yield Entry(f"{name}.weight", "params", (*path, "scale"))
    yield Entry(f"{name}.bias", "params", (*path, "bias"))
    yield Entry(f"{name}.running_mean", "batch_stats", (*path, "mean"))
    yield Entry(f"{name}.running_var", "batch_stats", (*path, "var"))
    yield Entry(f"{name}.{STEPS_SUFFIX}", None)


def conv_norm(conv_name: str, norm_name: str, path: TreePath, axes: int = 4) -> Iterator[Entry]:
    """Yields the tensors of a convolution and the batch normalisation after it."""
    yield from conv(conv_name, (*path, "conv"), axes)
    yield from norm(norm_name, (*path, "norm"))


def shortcut(name: str, path: TreePath, block: ArrayTree, axes: int) -> Iterator[Entry]:
    """Yields the tensors of a residual block's projection, if it has one."""
    if "shortcut" in block:
        yield from conv_norm(f"{name}.downsample.0", f"{name}.downsample.1", (*path, "shortcut"), axes)


def basic_block(name: str, path: TreePath, block: ArrayTree, axes: int = 4) -> Iterator[Entry]:
    """Yields the tensors of a residual block of two convolutions."""
    for i in (1, 2):
        yield from conv_norm(f"{name}.conv{i}", f"{name}.bn{i}", (*path, f"conv{i}"), axes)
    yield from shortcut(name, path, block, axes)


def part_head() -> Iterator[Entry]:
    """Yields the tensors of a `PartHead` called `head`."""
    yield Entry("FCs.fc_bin", "params", ("head", "fcs", "kernel"))
    yield Entry(CLASSIFIER, "params", ("head", "necks", "kernel"))
    yield from norm("BNNecks.bn1d", ("head", "necks", "norm"))


# Sizes.


def size(state_dict: StateDict, name: str, axis: int) -> int | None:
    """Returns one size of a tensor; None if there is no such tensor or axis."""
    if name not in state_dict or axis >= state_dict[name].ndim:
        return None
    return state_dict[name].shape[axis]


def stage_widths(state_dict: StateDict, prefixes: Sequence[str]) -> tuple[int, ...] | None:
    """Returns the width of each stage, as most of its tensors have it, so that a deviating one is reported.

    Args:
        state_dict: tensors of the file.
        prefixes: for each stage, the prefix of its tensors' names.

    Returns:
        None if a stage has no tensors.
    """
    widths = []
    for prefix in prefixes:
        votes = Counter(
            tensor.shape[0]
            for name, tensor in state_dict.items()
            if name.startswith(prefix) and name.endswith(".weight") and tensor.ndim
        )
        if not votes:
            return None
        widths.append(votes.most_common(1)[0][0])
    return tuple(widths)


def output_channels(state_dict: StateDict, kernels: list[str]) -> tuple[int, ...] | None:
    """Returns the output channels of convolutions; None if one is missing."""
    sizes = [found for name in kernels if (found := size(state_dict, name, 0)) is not None]
    return tuple(sizes) if len(sizes) == len(kernels) else None


def count(state_dict: StateDict, prefix: str) -> int:
    """Returns the number of blocks in a stage, found from the numbers after the prefix."""
    return len({name[len(prefix) :].split(".")[0] for name in state_dict if name.startswith(prefix)})


# Settings.


def fcs(model: Settings, inputs: int, parts: int) -> int:
    """Takes out `SeparateFCs`, checks its inputs and parts, and returns its output channels."""
    block = model.block("SeparateFCs")
    block.must_be("in_channels", inputs)
    block.must_be("parts_num", parts)
    outputs: int = block.take("out_channels", int)
    block.end()
    return outputs


def classes(model: Settings, inputs: int, parts: int = 16) -> int:
    """Takes out `SeparateBNNecks`, checks its inputs and parts, and returns its number of classes."""
    necks = model.block("SeparateBNNecks")
    necks.must_be("in_channels", inputs)
    necks.must_be("parts_num", parts)
    number: int = necks.take("class_num", int)
    necks.end()
    return number
