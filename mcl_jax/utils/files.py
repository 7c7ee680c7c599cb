"""Reads files of bounded size, and writes files that are complete or absent."""

import errno
import glob
import os
import secrets
import stat
from pathlib import Path

from mcl_jax.errors import UserError
from mcl_jax.utils.retry import retried

_JUNK = frozenset({"__MACOSX", "@eaDir", "__pycache__", "Thumbs.db", "$RECYCLE.BIN", "lost+found"})


def is_junk(name: str) -> bool:
    """Whether a name in a folder of data is hidden, or one that archivers and file systems leave behind."""
    return name.startswith(".") or name in _JUNK


_NAMED = 100  # letters of a file's name that are in its temporary one


def user_cache() -> Path:
    """Returns the user's cache folder of this package."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mcl_jax"


def read_bounded(path: str | Path, limit: int) -> bytes:
    """Returns the content of a file that may come from anybody.

    Args:
        path: the file.
        limit: the most bytes that it may have.

    Raises:
        OSError: it cannot be read, also when tried again where that may help; it is larger; or it is no file
            but a device, say; `strerror` says what.
    """
    return retried(str(path), lambda: _read(path, limit))


def _read(path: str | Path, limit: int) -> bytes:
    # A pipe that nobody writes to would hold an ordinary open up for ever.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        if status.st_size > limit:
            raise OSError(
                errno.EFBIG, f"it has {status.st_size} bytes, and {limit} is the most such a file has"
            )
        return file.readall()


def write_atomically(path: str | Path, content: bytes | memoryview, *, sync: bool = True) -> None:
    """Writes a file, and its folder, so that a reader sees the old content or the new, never a part.

    Args:
        path: the file.
        content: all of it.
        sync: whether to wait for the disk, so that not even a power cut leaves the new name on an empty file;
            too slow for thousands of files that can be made again.

    Raises:
        UserError: if it cannot be written.
    """
    path = Path(path)
    if not path.name:
        raise UserError(f"{path}: is a folder, not the name of a file to be written")
    try:
        retried(str(path), lambda: _write(path, content, sync))
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None


def clear_leftovers(path: Path) -> None:
    """Removes what a process that was killed while it wrote a file has left beside it."""
    for leftover in path.parent.glob(f".{glob.escape(path.name[:_NAMED])}.*.tmp"):
        leftover.unlink(missing_ok=True)


def _write(path: Path, content: bytes | memoryview, sync: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: two that write the same file would tear it.
    temporary = path.with_name(f".{path.name[:_NAMED]}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
