"""Reads a single walk from a path given by the user."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from absl import logging

from mcl_jax.data.prepare.layouts import why_no_frame
from mcl_jax.data.prepare.oddities import REMARKS, remarks
from mcl_jax.data.prepare.silhouette import SkippedFrameError, normalize, read_png
from mcl_jax.data.sequences import SequenceRef
from mcl_jax.data.stores.frames import SILHOUETTES, Pixels
from mcl_jax.data.stores.tree import PklSource, entries
from mcl_jax.errors import DataError
from mcl_jax.utils.terminal import count

_FIRST_WALKS = 3
"""Number of walks for which a warning about faulty frames is logged; more would repeat themselves."""


def read_walk(path: Path, pixels: Pixels = SILHOUETTES) -> np.ndarray:
    """Returns the silhouettes of a walk, uint8 [s, 64, 64 or 44], or of the height that `pixels` says.

    Args:
        path: a pkl file of silhouettes, a folder with one, or a folder of PNG frames, white on black. Frames
            are taken in the order of their names and prepared as for the published runs; frames without a
            person are left out.
        pixels: what its frames are.

    Raises:
        DataError: if there is no such walk, or it cannot be used.
    """
    if path.is_file() and path.suffix.lower() == ".pkl":
        return PklSource(pixels=pixels).read(SequenceRef("", "", "", str(path)))
    if path.is_file():
        raise DataError(f"{path}: is not a pkl file; give a pkl file or a folder of PNG frames")
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder; give a pkl file or a folder of PNG frames")
    names = sorted(entry.name for entry in entries(path) if entry.is_file())
    pickles = [name for name in names if name.lower().endswith(".pkl")]
    if len(pickles) > 1:
        raise DataError(
            f"{path}: {len(pickles)} pkl files, {', '.join(pickles[:3])}; give the path of the one to take"
        )
    if pickles:
        return PklSource(pixels=pixels).read(SequenceRef("", "", "", str(path / pickles[0])))
    pictures = [name for name in names if name.lower().endswith(".png")]
    if not pictures:
        raise DataError(f"{path}: {why_no_frame(path)}")
    return walk_of_frames(((name, read_png(path / name)) for name in pictures), str(path), pixels)


def walk_of_frames(
    frames: Iterable[tuple[str, np.ndarray]], walk: str, pixels: Pixels = SILHOUETTES
) -> np.ndarray:
    """Returns the silhouettes of a walk, uint8 [s, 64, 64], prepared as for the published runs.

    Args:
        frames: name and pixels uint8 [h, w] of each raw frame, white on black, at least one; those that show
            nobody are left out.
        walk: its name, for messages.
        pixels: what its frames are; their height is that of the result.

    Raises:
        DataError: if no frame can be used, or the walk cannot.
    """
    silhouettes, reasons = [], []
    odd: Counter[str] = Counter()
    for name, image in frames:
        try:
            silhouettes.append(normalize(image, size=pixels.height))
            odd.update(remarks(image))
        except SkippedFrameError as reason:
            reasons.append(f"{name}: {reason}")
    if not silhouettes:
        raise DataError(f"{walk}: 0 of {count(len(reasons), 'PNG frame')} can be used ({reasons[0]})")
    if odd:
        (kind, number), *_ = odd.most_common(1)
        logging.log_first_n(
            logging.WARNING,
            "%s: %d of %d frames %s",
            _FIRST_WALKS,
            walk,
            number,
            len(silhouettes),
            REMARKS[kind],
        )
    return pixels.check(np.stack(silhouettes), walk)
