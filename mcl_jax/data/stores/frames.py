"""Checks that silhouettes have the form that models expect."""

import dataclasses
from typing import TypeVar

import numpy as np

from mcl_jax.data.stores.silhouette_codec import PackedFrames
from mcl_jax.errors import DataError

HEIGHT = 64
HID_HEIGHT = 128

MEND = "prepare the sequence again, or leave it out"
"""Advice about a sequence that cannot be used."""

_WHITE = 128  # pixels of at least this value belong to the person
_MOSTLY = 0.9
_FULL = 255

_F = TypeVar("_F", np.ndarray, PackedFrames)


def check_frames(frames: _F, name: str, height: int = HEIGHT) -> _F:
    """Returns the frames if they are uint8 [s, 64, 64 or 44], s > 0, of a person, white on black.

    Frames of another height have the same proportions.

    Raises:
        DataError: if not. Frames with values 0 and 1, all black or white, inverted or transposed are refused,
            because a model would embed them without a warning. The message starts with `name`.
    """
    if frames.dtype != np.uint8:
        raise DataError(f"{name}: frames are {frames.dtype}; expected uint8 silhouettes in 0…255; {MEND}")
    check_shape(tuple(frames.shape), name, height)
    # One sound frame suffices for a sound sequence, in a hundredth of the time for all frames.
    if not _is_sound(frames[len(frames) // 2]) and (fault := _fault(frames[:])):
        raise DataError(f"{name}: {fault}; {MEND}")
    return frames


def check_maps(frames: _F, name: str, height: int = HEIGHT) -> _F:
    """Returns the frames if they are a non-empty uint8 [s, 64, 64 or 44] of parsing maps.

    Frames of another height have the same proportions.

    Raises:
        DataError: if not, or if they are silhouettes; the message starts with `name`.
    """
    if frames.dtype != np.uint8:
        raise DataError(f"{name}: frames are {frames.dtype}; expected uint8 parsing maps; {MEND}")
    check_shape(tuple(frames.shape), name, height)
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
    """The meaning of the pixel values of a dataset's frames, and their number; picklable.

    Attributes:
        one: the value that models see as 1.
        labels: whether a value stands for a part of the body, so that a mean of two is none.
        height: rows of a frame.
    """

    one: int
    labels: bool = False
    height: int = HEIGHT

    @property
    def frame_shape(self) -> tuple[int, int]:
        """Rows and columns of a cut frame, such as (64, 44)."""
        return self.height, _cut_width(self.height)

    def check(self, frames: _F, name: str) -> _F:
        """Returns the frames if they are such frames.

        Raises:
            DataError: if not; the message starts with `name`.
        """
        return (check_maps if self.labels else check_frames)(frames, name, self.height)


def _cut_width(height: int) -> int:
    return height * 11 // 16


def _is_sound(frame: np.ndarray) -> bool:
    """Whether a frame [h, w] certainly shows a person from top to bottom, and is black at one side."""
    if frame.max() < _WHITE or not (frame[0].any() and frame[-1].any()):
        return False
    return bool(frame[:, 0].max() < _WHITE or frame[:, -1].max() < _WHITE)


def check_shape(shape: tuple[int, ...], name: str, height: int = HEIGHT) -> None:
    """Checks the shape of a sequence's frames, which have `height` rows.

    Raises:
        DataError: if it is not [s, 64, 64 or 44], or s is 0; the message starts with `name`.
    """
    width = _cut_width(height)
    if len(shape) != 3 or shape[1] != height or shape[2] not in (height, width):
        raise DataError(
            f"{name}: array of shape {list(shape)}; expected [frames, {height}, {height} or {width}]; {MEND}"
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


SILHOUETTES = Pixels(_FULL)
HID_SILHOUETTES = Pixels(_FULL, height=HID_HEIGHT)
"""Silhouettes as the baseline of HID takes them, 128×128 or 128×88."""

PARSING_MAPS = Pixels(1, labels=True)
"""Numbers of body parts, or greys that tell them apart, which models take as they are."""
