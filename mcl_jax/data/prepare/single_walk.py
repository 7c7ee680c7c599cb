"""Reads a single walk from the path that a user gives."""

from pathlib import Path

import numpy as np

from mcl_jax.data.prepare.silhouette import SkippedFrameError, normalize, read_png
from mcl_jax.data.sequences import SequenceRef
from mcl_jax.data.stores.tree import PklSource, entries
from mcl_jax.errors import DataError


def read_walk(path: Path) -> np.ndarray:
    """Returns the silhouettes of a walk, uint8 [s, 64, 64 or 44].

    Args:
        path: a pkl file of silhouettes, a folder with one, or a folder of PNG frames, white on black, which
            are prepared in the order of their names as for the published runs; frames that show nobody are
            left out.

    Raises:
        DataError: if there is no such walk, or it cannot be used.
    """
    if path.is_file() and path.suffix.lower() == ".pkl":
        return PklSource().read(SequenceRef("", "", "", str(path)))
    if path.is_file():
        raise DataError(f"{path}: is no pkl file; give one, or a folder of PNG frames")
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder; give a pkl file or a folder of PNG frames")
    names = sorted(entry.name for entry in entries(path) if entry.is_file())
    pickles = [name for name in names if name.lower().endswith(".pkl")]
    if len(pickles) > 1:
        raise DataError(
            f"{path}: {len(pickles)} pkl files, {', '.join(pickles[:3])}; give the path of the one to take"
        )
    if pickles:
        return PklSource().read(SequenceRef("", "", "", str(path / pickles[0])))
    frames, reasons = [], []
    for name in names:
        if name.lower().endswith(".png"):
            try:
                frames.append(normalize(read_png(path / name)))
            except SkippedFrameError as reason:
                reasons.append(f"{name}: {reason}")
    if not frames:
        why = (
            f"none of its {len(reasons)} PNG frames can be used ({reasons[0]})"
            if reasons
            else "no PNG frame in it"
        )
        raise DataError(f"{path}: {why}")
    return np.stack(frames)
