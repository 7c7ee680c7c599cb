"""Switches that hold while a model is traced: what a program is to be, which no module need be told."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import TypeVar

_Value = TypeVar("_Value")


@contextlib.contextmanager
def switched(switch: contextvars.ContextVar[_Value], wanted: _Value) -> Iterator[None]:
    """Within, `switch.get()` returns `wanted`."""
    token = switch.set(wanted)
    try:
        yield
    finally:
        switch.reset(token)
