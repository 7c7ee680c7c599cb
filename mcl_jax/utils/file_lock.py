"""A lock on a file, which the system frees when the process ends, however it does."""

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
        holder: who it is and since when, in words.
    """

    def __init__(self, path: Path, holder: str):
        super().__init__(f"{path}: is held by {holder}; wait for it")
        self.holder = holder


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Holds the lock of a file, which is made if it is not there.

    The file is left there: to delete it would let a third writer in. A disk of the network has to share locks
    between its hosts, as NFS and Lustre do unless they are mounted otherwise.

    Args:
        path: the file.
        wait: whether to wait for another that holds the lock.

    Raises:
        LockedError: another holds it, and is not waited for.
        UserError: it cannot be opened, or its disk has no locks.
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
            raise UserError(f"{path}: its disk cannot lock files: {error.strerror}; use another") from None
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
            except OSError:  # after ten seconds of waiting
                if not wait:
                    raise BlockingIOError from None
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def _holder(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(200).decode(errors="replace") or "another process"


_BEYOND = 1024  # Windows lets nobody read what is locked, so a byte after the holder is locked
