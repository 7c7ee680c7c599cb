"""Maps tensors of an OpenGait `state_dict` to parameters, in the order OpenGait registers them.

The entries are read off a model's own parameters, so a residual block has a projection here exactly where
it has one there. The layouts differ in one way: PyTorch's convolution kernels are [out, in, *extent], ours
[*extent, in, out].
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mcl_jax.errors import CheckpointError
from mcl_jax.utils.pytrees import ArrayTree, TreePath

CLASSIFIER = "BNNecks.fc_bin"
"""The only tensor whose shape depends on the number of classes, [parts, channels, classes]."""
STEPS_SUFFIX = "num_batches_tracked"
"""Ends the names of PyTorch's counters of training steps, which our models do not keep."""


@dataclass(frozen=True)
class Entry:
    """One tensor on both sides.

    Attributes:
        name: its name in the `state_dict`.
        collection: the half of our state it is in, or None for a counter of steps, which has no place here.
        path: keys from the root of that half.
        kernel_axes: axes of PyTorch's tensor if it is the kernel of a convolution, else None. PyTorch may
            have more of them: a projection of a 3-D block is [out, in, 1, 1, 1] there, [1, 1, in, out] here.
    """

    name: str
    collection: Literal["params", "batch_stats"] | None
    path: TreePath = ()
    kernel_axes: int | None = None

    def to_torch_layout(self, array: np.ndarray) -> np.ndarray:
        """Returns our array in PyTorch's layout."""
        if self.kernel_axes is None:
            return array
        kernel = np.moveaxis(array, (-1, -2), (0, 1))
        return kernel.reshape(*kernel.shape, *(1,) * (self.kernel_axes - kernel.ndim))

    def from_torch_layout(self, array: np.ndarray, axes: int) -> np.ndarray:
        """Returns PyTorch's array in our layout with `axes` axes.

        Only what `to_torch_layout` appended may be cut off: compare the shapes first.
        """
        if self.kernel_axes is None:
            return array
        return np.moveaxis(array.reshape(array.shape[:axes]), (0, 1), (-1, -2))


def entries(model: str, params: ArrayTree) -> list[Entry]:
    """Returns the entries of a model in the order of PyTorch's `state_dict`.

    Without the entries of other collections, that is also the order of PyTorch's `parameters()`.

    Args:
        model: a key of `mcl_jax.models.MODELS`.
        params: its parameters.

    Raises:
        CheckpointError: if PyTorch has no such model.
    """
    if model not in _ENTRIES:
        raise CheckpointError(
            f"PyTorch has no {model}, only {', '.join(_ENTRIES)}: load it with mcl_jax.load"
        )
    return list(_ENTRIES[model](params))


def _conv(name: str, path: TreePath, axes: int = 4) -> Iterator[Entry]:
    yield Entry(f"{name}.weight", "params", (*path, "kernel"), axes)


def _norm(name: str, path: TreePath) -> Iterator[Entry]:
    yield Entry(f"{name}.weight", "params", (*path, "scale"))
    yield Entry(f"{name}.bias", "params", (*path, "bias"))
    yield Entry(f"{name}.running_mean", "batch_stats", (*path, "mean"))
    yield Entry(f"{name}.running_var", "batch_stats", (*path, "var"))
    yield Entry(f"{name}.{STEPS_SUFFIX}", None)


def _conv_norm(conv: str, norm: str, path: TreePath, axes: int = 4) -> Iterator[Entry]:
    yield from _conv(conv, (*path, "conv"), axes)
    yield from _norm(norm, (*path, "norm"))


def _shortcut(name: str, path: TreePath, block: ArrayTree, axes: int) -> Iterator[Entry]:
    if "shortcut" in block:
        yield from _conv_norm(f"{name}.downsample.0", f"{name}.downsample.1", (*path, "shortcut"), axes)


def _basic_block(name: str, path: TreePath, block: ArrayTree, axes: int = 4) -> Iterator[Entry]:
    for i in (1, 2):
        yield from _conv_norm(f"{name}.conv{i}", f"{name}.bn{i}", (*path, f"conv{i}"), axes)
    yield from _shortcut(name, path, block, axes)


def _p3d_block(name: str, path: TreePath, block: ArrayTree) -> Iterator[Entry]:
    for i in (1, 2):
        inner = f"{name}.conv{i}.forward_block"
        yield from _conv_norm(f"{inner}.0", f"{inner}.1", (*path, f"conv{i}"))
    yield from _conv_norm(f"{name}.shortcut3d", f"{name}.sbn", (*path, "temporal"), axes=5)
    yield from _shortcut(name, path, block, axes=5)


def _head() -> Iterator[Entry]:
    yield Entry("FCs.fc_bin", "params", ("head", "fcs", "kernel"))
    yield Entry(CLASSIFIER, "params", ("head", "necks", "kernel"))
    yield from _norm("BNNecks.bn1d", ("head", "necks", "norm"))


def _gaitset(params: ArrayTree) -> Iterator[Entry]:
    del params  # its structure is always the same
    names = [(f"set_block{i}.forward_block", f"set{i}") for i in (1, 2, 3)]
    names += [(f"gl_block{i}", f"global{i}") for i in (2, 3)]
    for name, key in names:
        yield from _conv(f"{name}.0.conv", (key, "conv1"))
        yield from _conv(f"{name}.2.conv", (key, "conv2"))
    yield Entry("Head.fc_bin", "params", ("fcs", "kernel"))


def _gaitbase(params: ArrayTree) -> Iterator[Entry]:
    root = "Backbone.forward_block"
    yield from _conv_norm(f"{root}.conv1.conv", f"{root}.bn1", ("stem",))
    for i, block in sorted(params["stages"].items()):
        yield from _basic_block(f"{root}.layer{i + 1}.0", ("stages", i), block)
        for j, more in sorted(params.get("rest", {}).get(i, {}).items()):
            yield from _basic_block(f"{root}.layer{i + 1}.{j + 1}", ("rest", i, j), more)
    yield from _head()


def _deepgaitv2(params: ArrayTree) -> Iterator[Entry]:
    yield from _conv_norm("layer0.forward_block.0", "layer0.forward_block.1", ("stem",))
    for i, stage in sorted(params["stages"].items()):
        for j, block in sorted(stage.items()):
            path = ("stages", i, j)
            if "temporal" in block:
                yield from _p3d_block(f"layer{i + 1}.{j}", path, block)
            elif block["conv1"]["conv"]["kernel"].ndim == 5:
                yield from _basic_block(f"layer{i + 1}.{j}", path, block, axes=5)
            else:
                yield from _basic_block(f"layer{i + 1}.forward_block.{j}", path, block)
    yield from _head()


_ENTRIES: dict[str, Callable[[ArrayTree], Iterator[Entry]]] = {
    "gaitset": _gaitset,
    "gaitbase": _gaitbase,
    "deepgaitv2": _deepgaitv2,
}

CONVERTIBLE = tuple(_ENTRIES)
"""Models that PyTorch has too."""
