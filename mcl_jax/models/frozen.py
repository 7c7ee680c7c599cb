"""Frozen batch normalisation: training with running statistics, which stay as they are.

Scales and biases still learn. It is for fine-tuning: small batches, or batches of other people, do not move
the statistics of the weights that are started from.
"""

import contextlib
import contextvars
from collections.abc import Iterator

_FROZEN = contextvars.ContextVar("frozen", default=False)


@contextlib.contextmanager
def frozen_statistics(wanted: bool) -> Iterator[None]:
    """Models that are traced inside use their running statistics in training too, if that is wanted."""
    token = _FROZEN.set(wanted)
    try:
        yield
    finally:
        _FROZEN.reset(token)


def is_frozen() -> bool:
    """Returns whether statistics are to stay as they are."""
    return _FROZEN.get()
