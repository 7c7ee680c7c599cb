"""Augmentation of whole clips with OpenCV, one draw for all frames of a clip.

Clips are arrays [s, h, w], uint8 as the loaders have them or float32 (what the reference computes on). Each
transform is a plain function of its parameters beside a function that draws them; `Augmentation` strings them
together in the configured order.
"""

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from mcl_jax.errors import ConfigError

FULL_WIDTH = 64
CUT_COLUMNS = 10

MAX_ROTATION = 10.0
"""Degrees to either side."""

PERSPECTIVE_REACH = 10
"""Columns from either edge within which the corners of the quadrilateral lie."""

ERASE_AREA = (0.05, 0.2)
ERASE_ASPECT = (0.3, 1 / 0.3)
ERASE_TRIES = 100

# OpenCV 5 interpolates exactly for up to this many channels, and to 1/32 pixel beyond.
_CHANNELS = 4

cv2.setNumThreads(0)  # the workers are the parallelism


def cut(clip: np.ndarray) -> np.ndarray:
    """Drops 10 columns on each side of 64-wide frames; 44-wide ones are already cut."""
    return clip[:, :, CUT_COLUMNS:-CUT_COLUMNS] if clip.shape[2] == FULL_WIDTH else clip


def flip(clip: np.ndarray) -> np.ndarray:
    """Mirrors every frame left to right."""
    return clip[:, :, ::-1]


def rotate(clip: np.ndarray, degree: float) -> np.ndarray:
    """Rotates every frame; bilinear, zero border.

    The centre is (x, y) = (h // 2, w // 2): the reference swaps the two, and the published runs trained so.
    """
    _, height, width = clip.shape
    matrix = cv2.getRotationMatrix2D((height // 2, width // 2), degree, 1)
    return _warp(clip, lambda image, out: cv2.warpAffine(image, matrix, (width, height), dst=out))


def perspective(clip: np.ndarray, corners: Sequence[int]) -> np.ndarray:
    """Stretches a quadrilateral of full height to the whole frame; bilinear, zero border.

    Args:
        clip: [s, h, w] with h = w = 64: the corners are drawn for uncut frames.
        corners: x of its top-left, top-right, bottom-left and bottom-right corner.
    """
    _, height, width = clip.shape
    top_left, top_right, bottom_left, bottom_right = corners
    source = [(top_left, 0), (top_right, 0), (bottom_right, height), (bottom_left, height)]
    target = [(0, 0), (width, 0), (width, height), (0, height)]
    matrix = cv2.getPerspectiveTransform(np.array(source, np.float32), np.array(target, np.float32))
    return _warp(clip, lambda image, out: cv2.warpPerspective(image, matrix, (width, height), dst=out))


def erase(clip: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    """Zeroes one box in all frames; the clip itself is left as it is."""
    erased = clip.copy()
    erased[:, top : top + height, left : left + width] = 0
    return erased


def _warp(clip: np.ndarray, warp: Callable[[np.ndarray, np.ndarray], object]) -> np.ndarray:
    """Applies an OpenCV warp (source, destination) to all frames, four at a time as channels of one image."""
    count, height, width = clip.shape
    images = -(-count // _CHANNELS)
    padded = np.zeros((_CHANNELS, images, height, width), clip.dtype)
    for channel in range(_CHANNELS):
        frames = clip[channel::_CHANNELS]
        padded[channel, : len(frames)] = frames
    tall = (images * height, width)  # OpenCV interleaves all images in one go
    source = cv2.merge(list(padded.reshape(_CHANNELS, *tall))).reshape(images, height, width, _CHANNELS)
    target = np.empty_like(source)
    for image, warped in zip(source, target, strict=True):
        warp(image, warped)
    result = np.empty((images * _CHANNELS, height, width), clip.dtype)
    for channel, frames in enumerate(cv2.split(target.reshape(*tall, _CHANNELS))):
        result[channel::_CHANNELS] = frames.reshape(images, height, width)
    return result[:count]


def _always_cut(_: np.random.Generator, clip: np.ndarray) -> np.ndarray:
    return cut(clip)


def _always_flip(_: np.random.Generator, clip: np.ndarray) -> np.ndarray:
    return flip(clip)


def _random_rotate(rng: np.random.Generator, clip: np.ndarray) -> np.ndarray:
    return rotate(clip, rng.uniform(-MAX_ROTATION, MAX_ROTATION))


def _random_perspective(rng: np.random.Generator, clip: np.ndarray) -> np.ndarray:
    near = rng.integers(0, PERSPECTIVE_REACH, 4)
    far = FULL_WIDTH - PERSPECTIVE_REACH
    return perspective(clip, near + np.array([0, far, 0, far]))


def _random_erase(rng: np.random.Generator, clip: np.ndarray) -> np.ndarray:
    _, height, width = clip.shape
    for _ in range(ERASE_TRIES):
        area = rng.uniform(*ERASE_AREA) * height * width
        aspect = rng.uniform(*ERASE_ASPECT)
        box_height, box_width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if box_height < height and box_width < width:
            top = int(rng.integers(0, height - box_height + 1))
            left = int(rng.integers(0, width - box_width + 1))
            return erase(clip, top, left, box_height, box_width)
    return clip


Transform = Callable[[np.random.Generator, np.ndarray], np.ndarray]

TRANSFORMS: dict[str, Transform] = {
    "perspective": _random_perspective,
    "cut": _always_cut,
    "flip": _always_flip,
    "rotate": _random_rotate,
    "erase": _random_erase,
}
"""Name in `data.augment` → function of (generator, clip)."""


class Augmentation:
    """The configured transforms of a clip, each applied with its own probability; picklable."""

    def __init__(self, steps: Sequence[tuple[str, float]]):
        """Takes (name, probability) pairs in the order to apply them.

        Raises:
            ConfigError: if a name is unknown, a probability is outside [0, 1], frames stay uncut, or
                perspective, which needs uncut frames, comes after the cut.
        """
        names = [name for name, _ in steps]
        for name, probability in steps:
            if name not in TRANSFORMS:
                raise ConfigError(f"data.augment: no transform {name!r}; there are {', '.join(TRANSFORMS)}")
            if not 0 <= probability <= 1:
                raise ConfigError(f"data.augment: probability of {name} is {probability}, not in [0, 1]")
        if dict(steps).get("cut") != 1:
            raise ConfigError(
                'data.augment: must hold ("cut", 1.0): models are trained and tested on cut frames'
            )
        if "perspective" in names and names.index("perspective") > names.index("cut"):
            raise ConfigError("data.augment: perspective must come before cut, it needs the uncut frames")
        self._steps = [(TRANSFORMS[name], probability) for name, probability in steps]
        self._needs_full_width = "perspective" in names

    def __call__(self, rng: np.random.Generator, clip: np.ndarray) -> np.ndarray:
        """Returns the augmented clip, of its type and of cut width; perhaps a view of it."""
        steps = self._steps
        if self._needs_full_width and clip.shape[2] != FULL_WIDTH:
            # Users who keep frames cut on disk train without it, as there.
            steps = [s for s in steps if s[0] is not _random_perspective]
        for transform, probability in steps:
            if probability == 1 or rng.random() < probability:
                clip = transform(rng, clip)
        return clip
