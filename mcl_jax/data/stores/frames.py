"""Checks silhouettes for the form in which every store returns them."""

from typing import TypeVar

import numpy as np

from mcl_jax.data.stores.silhouette_codec import PackedFrames
from mcl_jax.errors import DataError

HEIGHT = 64
WIDTHS = (64, 44)

MEND = "prepare the sequence again, or remove it"
"""What to do about a sequence that cannot be used."""

_F = TypeVar("_F", np.ndarray, PackedFrames)


def check_frames(frames: _F, name: str) -> _F:
    """Returns the frames if they are a non-empty uint8 [s, 64, 64 or 44].

    Raises:
        DataError: if not; the message starts with `name`.
    """
    if frames.dtype != np.uint8:
        raise DataError(f"{name}: frames are {frames.dtype}; expected uint8 silhouettes in 0…255; {MEND}")
    if frames.ndim != 3 or frames.shape[1] != HEIGHT or frames.shape[2] not in WIDTHS:
        raise DataError(
            f"{name}: array of shape {list(frames.shape)}; "
            f"expected [frames, {HEIGHT}, {WIDTHS[0]} or {WIDTHS[1]}]; {MEND}"
        )
    if len(frames) == 0:
        raise DataError(f"{name}: the sequence is empty; {MEND}")
    return frames
