"""One tensor of an OpenGait `state_dict` and where it is here.

The layouts differ in one way: PyTorch's convolution kernels are [out, in, *extent], ours [*extent, in, out].
"""

import dataclasses
from collections.abc import Iterable
from typing import Literal

import numpy as np

from mcl_jax.utils.pytrees import ArrayTree, TreePath, get_leaf

STEPS_SUFFIX = "num_batches_tracked"
"""Ends the names of PyTorch's counters of training steps, which our models do not keep."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One tensor on both sides.

    Attributes:
        name: its name in the `state_dict`.
        collection: the half of our state it is in, or None for a counter of steps and for a constant, which
            have no place here.
        path: keys from the root of that half.
        kernel_axes: axes of PyTorch's tensor if it is the kernel of a convolution, else None. PyTorch may
            have more of them: a projection of a 3-D block is [out, in, 1, 1, 1] there, [1, 1, in, out] here.
        part: where PyTorch has a tensor for each part of the body and we one array for all, [parts, ...], the
            part; else None.
        constant: what is written where PyTorch has a tensor and we have none; else None.
        unused: for a tensor with a constant that no output depends on, the half of PyTorch's state it is in.
            A file may hold other numbers, or may lack it. None for any other tensor.
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
        """Whether it counts the steps of training."""
        return self.collection is None and self.constant is None

    def to_torch_layout(self, array: np.ndarray) -> np.ndarray:
        """Returns our array, or its part, in PyTorch's layout."""
        if self.part is not None:
            array = array[self.part]
        if self.kernel_axes is None:
            return array
        kernel = np.moveaxis(array, (-1, -2), (0, 1))
        return kernel.reshape(*kernel.shape, *(1,) * (self.kernel_axes - kernel.ndim))

    def from_torch_layout(self, array: np.ndarray, axes: int) -> np.ndarray:
        """Returns PyTorch's array in our layout with `axes` axes; that of one part has an axis less.

        Only what `to_torch_layout` appended may be cut off: compare the shapes first.
        """
        if self.kernel_axes is None:
            return array
        own = axes if self.part is None else axes - 1
        return np.moveaxis(array.reshape(array.shape[:own]), (0, 1), (-1, -2))


def put_together(arrays: Iterable[tuple[Entry, np.ndarray]], like: ArrayTree) -> dict[TreePath, np.ndarray]:
    """Returns our arrays by their paths.

    Args:
        arrays: entries with PyTorch's arrays, whose shapes fit.
        like: the tree that has the paths, for the shapes; a part that is not given has zeros.
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
