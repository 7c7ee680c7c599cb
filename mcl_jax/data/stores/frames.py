"""Checks that silhouettes have the form that models expect."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from mcl_jax.data.stores.silhouette_codec import PackedFrames
from mcl_jax.errors import DataError

HEIGHT = 64
WIDTHS = (64, 44)

MEND = "prepare the sequence again, or leave it out"
"""Advice about a sequence that cannot be used."""

_WHITE = 128  # pixels of at least this value belong to the person
_MOSTLY = 0.9
_FULL = 255

_F = TypeVar("_F", np.ndarray, PackedFrames)


def check_frames(frames: _F, name: str) -> _F:
    """Returns the frames if they are uint8 [s, 64, 64 or 44], s > 0, of a person, white on black.

    Raises:
        DataError: if not. Frames with values 0 and 1, all black or white, inverted or transposed are refused,
            because a model would embed them without a warning. The message starts with `name`.
    """
    if frames.dtype != np.uint8:
        raise DataError(f"{name}: frames are {frames.dtype}; expected uint8 silhouettes in 0…255; {MEND}")
    check_shape(tuple(frames.shape), name)
    # One sound frame suffices for a sound sequence, in a hundredth of the time for all frames.
    if not _is_sound(frames[len(frames) // 2]) and (fault := _fault(frames[:])):
        raise DataError(f"{name}: {fault}; {MEND}")
    return frames


def check_maps(frames: _F, name: str) -> _F:
    """Returns the frames if they are a non-empty uint8 [s, 64, 64 or 44] of parsing maps.

    Raises:
        DataError: if not, or if they are silhouettes; the message starts with `name`.
    """
    if frames.dtype != np.uint8:
        raise DataError(f"{name}: frames are {frames.dtype}; expected uint8 parsing maps; {MEND}")
    check_shape(tuple(frames.shape), name)
    brightest = int(frames[:].max())
    if brightest == 0:
        raise DataError(f"{name}: all pixels are 0; expected parsing maps; {MEND}")
    if brightest == _FULL:
        raise DataError(
            f"{name}: the brightest pixel is {_FULL}, so these are silhouettes and no parsing maps; take the "
            "dataset of silhouettes, or another data.root"
        )
    return frames


@dataclasses.dataclass(frozen=True)
class Pixels:
    """The meaning of the pixel values of a dataset's frames; picklable.

    Attributes:
        one: the value that models see as 1.
        check: from frames and a name for messages to the frames; a DataError if they are not such.
        labels: whether a value stands for a part of the body, so that a mean of two is none.
    """

    one: int
    check: Callable[[Any, str], Any]
    labels: bool = False


def _is_sound(frame: np.ndarray) -> bool:
    """Whether a frame [h, w] certainly shows a person from top to bottom, and is black at one side."""
    if frame.max() < _WHITE or not (frame[0].any() and frame[-1].any()):
        return False
    return bool(frame[:, 0].max() < _WHITE or frame[:, -1].max() < _WHITE)


def check_shape(shape: tuple[int, ...], name: str) -> None:
    """Checks the shape of a sequence's frames.

    Raises:
        DataError: if it is not [s, 64, 64 or 44], or s is 0; the message starts with `name`.
    """
    if len(shape) != 3 or shape[1] != HEIGHT or shape[2] not in WIDTHS:
        raise DataError(
            f"{name}: array of shape {list(shape)}; "
            f"expected [frames, {HEIGHT}, {WIDTHS[0]} or {WIDTHS[1]}]; {MEND}"
        )
    if shape[0] == 0:
        raise DataError(f"{name}: the sequence is empty; {MEND}")


def _fault(frames: np.ndarray) -> str:
    """Returns why frames [s, h, w] are no silhouettes of a walking person; "" if no fault is found."""
    expected = "expected a person of 255 on a background of 0"
    brightest = int(frames.max())
    if brightest == 0:
        return f"all pixels are 0; {expected}"
    if brightest == 1:
        return "the values are 0 and 1; expected 0 and 255: multiply them by 255"
    if brightest < _WHITE:
        return f"the brightest pixel is {brightest}; {expected}; maps of body parts are gait3d_parsing's"
    white = frames >= _WHITE
    if white.all():
        return f"all pixels are white; {expected}"
    sides = white[:, :, [0, -1]]  # [s, h, 2], where nearly all is background
    if sides.mean() > _MOSTLY:
        return f"white at the left and right border: inverted; {expected}: subtract the values from 255"
    # In prepared frames, a person reaches from the top row to the bottom row, and seldom a side.
    touches_sides = np.all(np.any(sides, axis=1), axis=1)
    touches_top_and_bottom = np.all(np.any(white[:, [0, -1]], axis=2), axis=1)
    if touches_sides.mean() > _MOSTLY and touches_top_and_bottom.mean() < 1 - _MOSTLY:
        return "the person reaches from side to side, not from top to bottom: transposed; swap the two axes"
    return ""


SILHOUETTES = Pixels(_FULL, check_frames)
PARSING_MAPS = Pixels(1, check_maps, labels=True)
"""Numbers of body parts, or greys that tell them apart, which models take as they are."""
