"""Rematerialisation: blocks of a model that keep no activations, and compute them again for the gradient.

It saves memory of the training step for time: each block runs forward twice. The gradient is the same, and
batch statistics are recorded once (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost",
arXiv:1604.06174).
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

from flax import nnx
from jaxtyping import Array

_REMAT = contextvars.ContextVar("remat", default=False)


@contextlib.contextmanager
def rematerialised(wanted: bool) -> Iterator[None]:
    """Models that are traced inside keep only the activations between their blocks, if that is wanted."""
    token = _REMAT.set(wanted)
    try:
        yield
    finally:
        _REMAT.reset(token)


def run_block(block: Callable[..., Array], module: nnx.Module, *arrays: Array) -> Any:
    """Returns `block(module, *arrays)`, computed again for the gradient where that is asked for.

    Args:
        block: a function of a module and arrays; it may record batch statistics in the module.
        module: whose parameters it uses.
        arrays: the activations it starts from, which are kept.
    """
    return (nnx.remat(block) if _REMAT.get() else block)(module, *arrays)
