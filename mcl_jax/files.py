"""Writing files that are complete or absent, whenever the process dies."""

import os
import tempfile
from pathlib import Path

from mcl_jax.errors import UserError


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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                if sync:
                    file.flush()
                    os.fsync(handle)
            Path(temporary).chmod(0o644)  # mkstemp makes files that only their owner can read
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None
