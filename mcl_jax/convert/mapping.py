"""Maps tensors of an OpenGait `state_dict` to arrays of mcl_jax.

Only convolution kernels differ in layout: PyTorch's are [out, in, *extent], mcl_jax's [*extent, in, out].
"""

import dataclasses
from collections.abc import Iterable
from typing import Literal

import numpy as np

from mcl_jax.utils.pytrees import ArrayTree, TreePath, get_leaf

STEPS_SUFFIX = "num_batches_tracked"
"""End of the names of PyTorch's counters of training steps, which models in mcl_jax do not have."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A tensor in PyTorch, and its array in mcl_jax.

    Attributes:
        name: its name in the `state_dict`.
        collection: the collection of mcl_jax's state with the array; None for a counter of steps and for a
            constant, which mcl_jax does not store.
        path: keys of the array in the collection.
        kernel_axes: number of axes of PyTorch's tensor if it is the kernel of a convolution, else None.
            PyTorch may have more: the projection of a 3-D block is [out, in, 1, 1, 1] in PyTorch, and
            [1, 1, in, out] in mcl_jax.
        part: number of the part of the body, if PyTorch has a tensor for each part, and mcl_jax one array
            [parts, ...] for all; else None.
        constant: value of a tensor that PyTorch stores although training does not change it; else None.
        unused: for a tensor with a constant that no output depends on, the half of PyTorch's state with it. A
            file may hold other numbers, or lack it. None for any other tensor.
    """

    name: str
    collection: Literal["params", "batch_stats"] | None
    path: TreePath = ()
    kernel_axes: int | None = None
    part: int | None = None
    constant: np.ndarray | None = dataclasses.field(default=None, compare=False)
    unused: Literal["params", "batch_stats"] | None = None

    @property
    def is_counter(self) -> bool:
        """Whether it is a counter of training steps."""
        return self.collection is None and self.constant is None

    def to_torch_layout(self, array: np.ndarray) -> np.ndarray:
        """Returns mcl_jax's array, or its part, in PyTorch's layout."""
        if self.part is not None:
            array = array[self.part]
        if self.kernel_axes is None:
            return array
        kernel = np.moveaxis(array, (-1, -2), (0, 1))
        return kernel.reshape(*kernel.shape, *(1,) * (self.kernel_axes - kernel.ndim))

    def from_torch_layout(self, array: np.ndarray, axes: int) -> np.ndarray:
        """Returns PyTorch's array in mcl_jax's layout with `axes` axes, or one less for a single part.

        It drops the axes that `to_torch_layout` appends without checking them: compare the shapes first.
        """
        if self.kernel_axes is None:
            return array
        own = axes if self.part is None else axes - 1
        return np.moveaxis(array.reshape(array.shape[:own]), (0, 1), (-1, -2))


def put_together(arrays: Iterable[tuple[Entry, np.ndarray]], like: ArrayTree) -> dict[TreePath, np.ndarray]:
    """Returns mcl_jax's arrays by their paths.

    Args:
        arrays: entries with PyTorch's arrays, whose shapes fit.
        like: a tree with the same paths, for the shapes; missing parts become zeros.
    """
    ours: dict[TreePath, np.ndarray] = {}
    for entry, array in arrays:
        leaf = get_leaf(like, entry.path)
        own = entry.from_torch_layout(array, leaf.ndim)
        if entry.part is None:
            ours[entry.path] = own
        else:
            ours.setdefault(entry.path, np.zeros(leaf.shape, own.dtype))[entry.part] = own
    return ours
