"""Frozen batch normalisation: training with running statistics, which stay as they are.

Scales and biases still learn. It is for fine-tuning: small batches, or batches of other people, do not move
the statistics of the weights that are started from.
"""

import contextvars
from contextlib import AbstractContextManager

from mcl_jax.models.switches import switched

_FROZEN = contextvars.ContextVar("frozen", default=False)


def frozen_statistics(wanted: bool) -> AbstractContextManager[None]:
    """Models that are traced inside use their running statistics in training too, if that is wanted."""
    return switched(_FROZEN, wanted)


def is_frozen() -> bool:
    """Returns whether statistics are to stay as they are."""
    return _FROZEN.get()
