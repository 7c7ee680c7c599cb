"""Checks that a workdir is a folder where a run may write."""

import os
import re
from pathlib import Path

from mcl_jax.errors import ConfigError

_LONGEST_NAME = 255  # bytes of a part of a path
# System folders where no run belongs, and folders that keep nothing.
_SYSTEM = frozenset(
    Path("/", name)
    for name in (
        *("bin", "boot", "dev", "etc", "home", "lib", "lib32", "lib64", "media", "mnt", "opt", "proc"),
        *("root", "run", "sbin", "srv", "sys", "tmp", "usr", "var"),
    )
)
_KERNEL = frozenset(map(Path, ("/proc", "/sys", "/boot", "/etc", "/bin", "/sbin", "/lib", "/lib64")))


def check_workdir(workdir: Path, data_root: str) -> None:
    """Checks that a workdir is a suitable folder, so that a mistyped path is not filled with files.

    Args:
        workdir: the folder for the run.
        data_root: folder of the dataset; "" for none.

    Raises:
        ConfigError: it is an address of object storage, cannot be a folder's name, or is another kind of
            folder.
    """
    # The Path type has already merged the two slashes.
    if re.match(r"[a-z][a-z0-9]+:/", str(workdir)):
        raise ConfigError(
            f"--workdir: {workdir} is object storage, where a run cannot lock files; use a folder on a "
            "disk, and copy it there afterwards"
        )
    # Checkpoints are written by C++, which accepts only UTF-8.
    if not str(workdir).isprintable():
        raise ConfigError(
            f"--workdir: {str(workdir)!a} contains characters that cannot be shown; use another"
        )
    if any(len(os.fsencode(part)) > _LONGEST_NAME for part in workdir.parts):
        raise ConfigError(f"--workdir: {str(workdir)[:40]}… is too long for the name of a folder; shorten it")
    try:
        folder = workdir.resolve()
        home = Path.home().resolve()
    except (OSError, RuntimeError) as error:  # a loop of links, or a user without a home folder
        raise ConfigError(f"--workdir: {workdir}: {getattr(error, 'strerror', None) or error}") from None
    if folder == home or folder in home.parents:
        kind = "your home folder" if folder == home else "a folder of the system"
    elif folder.parent == folder or folder in _SYSTEM or any(parent in _KERNEL for parent in folder.parents):
        kind = "a folder of the system"
    elif data_root and _is_within(folder, Path(data_root)):
        kind = f"in data.root, {data_root}, which is only for sequences"
    else:
        return
    raise ConfigError(f"--workdir: {workdir} is {kind}; use a folder of the run's own, such as runs/NAME")


def _is_within(folder: Path, root: Path) -> bool:
    try:
        root = root.resolve()
    except (OSError, RuntimeError, ValueError):  # no such root; opening it gives the error
        return False
    return folder == root or root in folder.parents
