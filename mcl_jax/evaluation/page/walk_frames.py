"""Packs walks for the page: some frames of each, one bit per pixel, compressed together."""

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mcl_jax.errors import DataError
from mcl_jax.evaluation.embeddings import SilhouetteFn

FRAMES = (12, 8, 4, 1)  # per walk: the first of these with which all walks fit into MAX_BYTES
EVERY = 2  # every second of a camera's 25 to 30 frames a second shows a step well
MAX_BYTES = 5_000_000  # compressed
_MAX_HEIGHT = 64
_WHITE = 128


@dataclass(frozen=True)
class PackedWalks:
    """Frames of walks for the page.

    Attributes:
        frames: frames of each walk.
        height: height of a frame.
        width: width of a frame.
        content: base64 of the zlib stream of the bits [walks, frames, height·width / 8, rounded up].
    """

    frames: int
    height: int
    width: int
    content: str


def pack_walks(walks: Sequence[int], silhouettes: SilhouetteFn) -> PackedWalks:
    """Reads walks and packs every second of their first frames; short walks are repeated.

    Args:
        walks: indices of sequences, at least one.
        silhouettes: returns the frames of a sequence.

    Raises:
        DataError: if frames differ in size, or a sequence cannot be read.
    """
    bits, size = [], None
    for i in walks:
        clip = _thinned(silhouettes(i))
        size = size or clip.shape[1:]
        if clip.shape[1:] != size:
            raise DataError(
                f"report.html: frames of sequence {i} are {clip.shape[1:]}, those of others {size}; "
                "prepare all sequences at one size"
            )
        bits.append(np.packbits((clip >= _WHITE).reshape(len(clip), -1), axis=1))
    height, width = size or (1, 1)
    stacked = np.stack(bits)
    for frames in FRAMES:
        content = zlib.compress(stacked[:, :frames].tobytes(), 9)
        if len(content) <= MAX_BYTES:
            break
    return PackedWalks(frames, height, width, base64.b64encode(content).decode())


def _thinned(clip: np.ndarray) -> np.ndarray:
    """Returns the frames for the page, up to 64 pixels high."""
    step = -(-clip.shape[1] // _MAX_HEIGHT)
    some = clip[: EVERY * FRAMES[0] : EVERY, ::step, ::step]
    return some[np.arange(FRAMES[0]) % len(some)]
