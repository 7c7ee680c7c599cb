"""Writing files that are complete or absent, whenever the process dies."""

import os
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
        temporary = path.with_name(f".{path.name}.tmp")  # always the same, so the next try clears it away
        try:
            with temporary.open("wb") as file:
                file.write(content)
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None
