"""Rematerialisation: blocks of a model that keep no activations, and compute them again for the gradient.

It saves memory of the training step for time: each block runs forward twice. The gradient is the same, and
batch statistics are recorded once (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost",
arXiv:1604.06174).
"""

import contextvars
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from flax import nnx
from jaxtyping import Array

from mcl_jax.models.switches import switched

_REMAT = contextvars.ContextVar("remat", default=False)


def rematerialised(wanted: bool) -> AbstractContextManager[None]:
    """Models that are traced inside keep only the activations between their blocks, if that is wanted."""
    return switched(_REMAT, wanted)


def run_block(
    module: nnx.Module, x: Array, *, method: Callable[..., Array] | None = None, **settings: Any
) -> Any:
    """Returns `module(x, **settings)`, computed again for the gradient where that is asked for.

    Args:
        module: a block of a model; it may record batch statistics.
        x: the activations it starts from, which are kept.
        method: of the module's class, to call in place of the module itself.
        settings: what else it takes.
    """
    function = method or type(module).__call__

    def block(module: nnx.Module, x: Array) -> Array:
        return function(module, x, **settings)

    return (nnx.remat(block) if _REMAT.get() else block)(module, x)
