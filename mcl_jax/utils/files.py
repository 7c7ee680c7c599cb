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
    """Whether a file name is hidden, or is left behind by archivers and file systems."""
    return name.startswith(".") or name in _JUNK


_NAMED = 100  # letters of a file's name that go into its temporary name


def user_cache() -> Path:
    """Returns the user's cache folder of this package."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mcl_jax"


def read_bounded(path: str | Path, limit: int) -> bytes:
    """Returns the content of an untrusted file.

    Args:
        path: the file.
        limit: largest size in bytes.

    Raises:
        OSError: it cannot be read, even after retries where they may help; it is too large; or it is not a
            regular file, but a device, for example. `strerror` says which.
    """
    return retried(str(path), lambda: _read(path, limit))


def _read(path: str | Path, limit: int) -> bytes:
    # An ordinary open would wait forever for a pipe that nobody writes to.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        if status.st_size > limit:
            raise OSError(errno.EFBIG, f"it has {status.st_size} bytes; the limit for such a file is {limit}")
        return file.readall()


def write_atomically(path: str | Path, content: bytes | memoryview, *, sync: bool = True) -> None:
    """Writes a file, and makes its folder, so that readers see either the old or the new content.

    Args:
        path: the file.
        content: all of it.
        sync: whether to wait for the disk, so that even a power cut cannot leave an empty file; too slow for
            thousands of files that can be made again.

    Raises:
        UserError: if it cannot be written.
    """
    path = Path(path)
    if not path.name:
        raise UserError(f"{path}: is a folder; give the name of a file")
    try:
        retried(str(path), lambda: _write(path, content, sync))
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None


def clear_leftovers(path: Path) -> None:
    """Removes temporary files that a killed process left while writing this file."""
    for leftover in path.parent.glob(f".{glob.escape(path.name[:_NAMED])}.*.tmp"):
        leftover.unlink(missing_ok=True)


def _write(path: Path, content: bytes | memoryview, sync: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A unique name, so that two processes that write the same file do not mix their content.
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
