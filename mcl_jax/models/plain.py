"""The plain program of a model, for export: no kernel of ours and no packing, so any runtime can run it.

Each row is one whole sequence without empty slots, and convolutions are the compiler's own on every platform.
"""

import contextvars
from contextlib import AbstractContextManager

from mcl_jax.models.switches import switched

_PLAIN = contextvars.ContextVar("plain", default=False)


def plain_program() -> AbstractContextManager[None]:
    """Models that are traced inside have their plain program; for testing only."""
    return switched(_PLAIN, True)


def is_plain() -> bool:
    """Returns whether the plain program is asked for."""
    return _PLAIN.get()
