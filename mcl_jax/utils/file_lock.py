"""A lock on a file, which the system frees however the process ends."""

import contextlib
import datetime
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from mcl_jax.errors import UserError


class LockedError(UserError):
    """Another process holds the lock.

    Attributes:
        holder: text that says which process it is, and since when.
    """

    def __init__(self, path: Path, holder: str):
        super().__init__(f"{path}: is in use by {holder}; wait until it ends")
        self.holder = holder


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Holds the lock of a file, which is created if it is missing.

    The file is never deleted, because that would let a third writer in. A network disk must share locks
    between its hosts, as NFS and Lustre do by default.

    Args:
        path: the file.
        wait: whether to wait if another process holds the lock.

    Raises:
        LockedError: another process holds it, and `wait` is False.
        UserError: it cannot be opened, or its disk does not support locks.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    except OSError as error:
        raise UserError(f"{path}: cannot be opened: {error.strerror}") from None
    with file:
        try:
            _take(file, wait)
        except BlockingIOError:
            raise LockedError(path, _holder(file)) from None
        except OSError as error:
            raise UserError(
                f"{path}: its disk cannot lock files: {error.strerror}; use another disk"
            ) from None
        since = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}".encode())
        file.flush()
        yield


def _take(file: IO[bytes], wait: bool) -> None:
    if sys.platform == "win32":
        import msvcrt

        file.seek(_BEYOND)
        while True:
            try:
                return msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
            except OSError:  # Windows gives up after ten seconds
                if not wait:
                    raise BlockingIOError from None
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def _holder(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(200).decode(errors="replace") or "another process"


_BEYOND = 1024  # Windows blocks reads of locked bytes, so a byte after the holder's name is locked
