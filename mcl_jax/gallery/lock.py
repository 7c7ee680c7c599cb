"""One writer at a time: a lock on a file, which the system frees when the process ends, however it does."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from mcl_jax.errors import UserError


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock of a file, and waits for it as long as another holds it.

    Args:
        path: made if it is not there, and left there: to delete it would let a third writer in.

    Raises:
        UserError: if it cannot be opened.
    """
    try:
        file = path.open("a+b")
    except OSError as error:
        raise UserError(f"{path}: cannot be opened: {error.strerror}") from None
    with file:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            while True:
                try:
                    msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)  # tries for ten seconds
                    break
                except OSError:
                    continue
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
