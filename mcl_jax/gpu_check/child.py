"""Compiles in a child process, because XLA's GPU compiler may abort and end its process."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import ParamSpec, TypeVar

from mcl_jax.errors import UserError
from mcl_jax.utils.workers import live_with_parent

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

# Only the compiler is needed; JAX must not look for a GPU.
_ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "2"}


class CompilerAbortError(UserError):
    """XLA's compiler ended its process."""


def apart(
    function: Callable[_Arguments, _Result], *arguments: _Arguments.args, **keys: _Arguments.kwargs
) -> _Result:
    """Calls a function in a separate process and returns its result.

    Args:
        function: a module-level function, so that it can be pickled.
        *arguments: its arguments.
        **keys: its keyword arguments.

    Raises:
        CompilerAbortError: if the process ended; the message has the compiler's last words.
        Exception: whatever the function raises.
    """
    with tempfile.TemporaryDirectory() as folder, _environment(_ENVIRONMENT):
        log = Path(folder) / "stderr"
        with concurrent.futures.ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), initializer=_start, initargs=(str(log),)
        ) as pool:
            try:
                return pool.submit(function, *arguments, **keys).result()
            except BrokenProcessPool:
                text = log.read_text(errors="replace") if log.exists() else ""
                raise CompilerAbortError(f"XLA's GPU compiler aborted: {_reason(text)}") from None


def _start(path: str) -> None:
    """Redirects the output of C++ to a file, which is shown only if the process dies."""
    live_with_parent()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 2)


def _reason(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return next((line for line in lines if "Check failed" in line), lines[-1] if lines else "it said nothing")


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
