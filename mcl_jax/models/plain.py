"""The plain program of a model, for export: no kernel of ours and no packing, so any runtime can run it.

Each row is one whole sequence without empty slots, and convolutions are the compiler's own on every platform.
"""

import contextlib
import contextvars
from collections.abc import Iterator

_PLAIN = contextvars.ContextVar("plain", default=False)


@contextlib.contextmanager
def plain_program() -> Iterator[None]:
    """Models that are traced inside have their plain program; for testing only."""
    token = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(token)


def is_plain() -> bool:
    """Returns whether the plain program is asked for."""
    return _PLAIN.get()
