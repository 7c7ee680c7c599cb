"""Allows one run at a time in a folder, for any number of hosts."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from mcl_jax.errors import UserError
from mcl_jax.utils.file_lock import LockedError, locked

RUN_LOCK = "run.lock"
"""File in a workdir that a training run locks."""


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Holds a lock file; the first host does so for all.

    Raises:
        UserError: on every host, if another run holds it, or it cannot be written.
    """
    with contextlib.ExitStack() as stack:
        refused = None
        if jax.process_index() == 0:
            try:
                stack.enter_context(locked(path, wait=False))
            except LockedError as error:
                refused = UserError(
                    f"{path.parent}: another run uses this workdir, {error.holder}; wait for it, or use "
                    "another --workdir"
                )
            except UserError as error:
                refused = error
        if jax.process_count() > 1 and multihost_utils.broadcast_one_to_all(np.int32(refused is not None)):
            raise refused or UserError(f"{path}: the first host cannot lock it; see that host's error")
        if refused is not None:
            raise refused
        yield
