"""Walks for the page: a few frames of each, one bit a pixel, compressed together."""

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mcl_jax.errors import DataError
from mcl_jax.evaluation.embeddings import SilhouetteFn

FRAMES = (12, 8, 4, 1)  # of a walk: the first of these that keeps all walks within the budget
EVERY = 2  # of a camera's 25 to 30 frames a second, half show a step well
MOST_BYTES = 5_000_000  # compressed
_TALLEST = 64
_WHITE = 128


@dataclass(frozen=True)
class PackedWalks:
    """Frames of walks for the page.

    Attributes:
        frames: of each walk.
        height: of a frame.
        width: of a frame.
        content: base64 of the zlib stream of the bits [walks, frames, height·width / 8, rounded up].
    """

    frames: int
    height: int
    width: int
    content: str


def pack_walks(walks: Sequence[int], silhouettes: SilhouetteFn) -> PackedWalks:
    """Reads walks and packs every second of their first frames; shorter ones start again.

    Args:
        walks: indices of sequences, at least one.
        silhouettes: gives the frames of a sequence.

    Raises:
        DataError: if frames are of two sizes, or a sequence cannot be read.
    """
    bits, size = [], None
    for i in walks:
        clip = _thinned(silhouettes(i))
        size = size or clip.shape[1:]
        if clip.shape[1:] != size:
            raise DataError(f"report.html: sequence {i} has frames {clip.shape[1:]} and others {size}")
        bits.append(np.packbits((clip >= _WHITE).reshape(len(clip), -1), axis=1))
    height, width = size or (1, 1)
    stacked = np.stack(bits)
    for frames in FRAMES:
        content = zlib.compress(stacked[:, :frames].tobytes(), 9)
        if len(content) <= MOST_BYTES:
            break
    return PackedWalks(frames, height, width, base64.b64encode(content).decode())


def _thinned(clip: np.ndarray) -> np.ndarray:
    """The frames that may be shown, at most 64 pixels high."""
    step = -(-clip.shape[1] // _TALLEST)
    some = clip[: EVERY * FRAMES[0] : EVERY, ::step, ::step]
    return some[np.arange(FRAMES[0]) % len(some)]
