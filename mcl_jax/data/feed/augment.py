"""Augmentation of clips with OpenCV; all frames of a clip are transformed alike.

Clips are arrays [s, h, w], uint8 as from the loaders, or float32 as in the reference. Each transform is a
plain function, and a class that draws its parameters at random and has the fields that a config can set;
`Augmentation` applies the transforms in the configured order.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import cv2
import numpy as np

from mcl_jax.errors import ConfigError
from mcl_jax.utils.signatures import AtLeast, NotNegative, check_arguments, lookup

FULL_WIDTH = 64
CUT_COLUMNS = 10

PERSPECTIVE_REACH = 10
"""The corners of the quadrilateral are within this many of 64 columns of the left or right edge."""

AFFINE_REACH = 10
"""Each of the three points moves by less than this many of 64 pixels along each axis."""

ERASE_TRIES = 100

# OpenCV 5 interpolates exactly for up to this many channels, and only to 1/32 pixel for more.
_CHANNELS = 4

cv2.setNumThreads(0)  # worker processes run in parallel already


def cut(clip: np.ndarray) -> np.ndarray:
    """Removes 10 of every 64 columns on each side; frames of 44 or 88 columns are already cut."""
    columns = CUT_COLUMNS * _full_widths(clip)
    return clip[:, :, columns:-columns] if columns else clip


def _full_widths(clip: np.ndarray) -> int:
    """Returns the width of uncut frames as a multiple of 64; 0 for frames that are cut."""
    times, rest = divmod(clip.shape[2], FULL_WIDTH)
    return 0 if rest else times


def flip(clip: np.ndarray) -> np.ndarray:
    """Mirrors every frame left to right."""
    return clip[:, :, ::-1]


def rotate(clip: np.ndarray, degree: float) -> np.ndarray:
    """Rotates every frame; bilinear, zero border.

    The centre is (x, y) = (h // 2, w // 2): the reference swaps the two, also in the published runs.
    """
    _, height, width = clip.shape
    matrix = cv2.getRotationMatrix2D((height // 2, width // 2), degree, 1)
    return _warp(clip, lambda image, out: cv2.warpAffine(image, matrix, (width, height), dst=out))


def perspective(clip: np.ndarray, corners: Sequence[int]) -> np.ndarray:
    """Stretches a quadrilateral of full height to the whole frame; bilinear, zero border.

    Args:
        clip: [s, h, w] with h = w, that is uncut frames.
        corners: x of the top-left, top-right, bottom-left and bottom-right corner of the quadrilateral.
    """
    _, height, width = clip.shape
    top_left, top_right, bottom_left, bottom_right = corners
    source = [(top_left, 0), (top_right, 0), (bottom_right, height), (bottom_left, height)]
    target = [(0, 0), (width, 0), (width, height), (0, height)]
    matrix = cv2.getPerspectiveTransform(np.array(source, np.float32), np.array(target, np.float32))
    return _warp(clip, lambda image, out: cv2.warpPerspective(image, matrix, (width, height), dst=out))


def affine(clip: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Applies the affine map that moves three given points to three others; bilinear, zero border.

    Args:
        clip: [s, h, w].
        source: [3, 2], (x, y) of the points.
        target: [3, 2], (x, y) after the move.
    """
    _, height, width = clip.shape
    matrix = cv2.getAffineTransform(source.astype(np.float32), target.astype(np.float32))
    return _warp(clip, lambda image, out: cv2.warpAffine(image, matrix, (width, height), dst=out))


def erase(clip: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    """Returns a copy of the clip with one box set to zero in all frames."""
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
    tall = (images * height, width)  # so that one OpenCV call interleaves all images
    source = cv2.merge(list(padded.reshape(_CHANNELS, *tall))).reshape(images, height, width, _CHANNELS)
    target = np.empty_like(source)
    for image, warped in zip(source, target, strict=True):
        warp(image, warped)
    result = np.empty((images * _CHANNELS, height, width), clip.dtype)
    for channel, frames in enumerate(cv2.split(target.reshape(*tall, _CHANNELS))):
        result[channel::_CHANNELS] = frames.reshape(images, height, width)
    return result[:count]


class Transform:
    """A random transform: a frozen dataclass whose fields a config can set.

    Attributes:
        per_frame: whether chance and parameters are drawn for each frame instead of for the whole clip.
        blends: whether it interpolates between pixels.
    """

    per_frame = False
    blends: ClassVar[bool] = False

    def __call__(self, rng: np.random.Generator, clip: np.ndarray) -> np.ndarray:
        """Returns the transformed clip."""
        raise NotImplementedError


@dataclass(frozen=True)
class Cut(Transform):
    """Applies `cut`."""

    def __call__(self, rng: np.random.Generator, clip: np.ndarray) -> np.ndarray:
        """Returns the cut clip."""
        del rng
        return cut(clip)


@dataclass(frozen=True)
class Flip(Transform):
    """Applies `flip`."""

    def __call__(self, rng: np.random.Generator, clip: np.ndarray) -> np.ndarray:
        """Returns the flipped clip."""
        del rng
        return flip(clip)


@dataclass(frozen=True)
class Rotate(Transform):
    """Applies `rotate` by up to `degree` degrees in either direction."""

    blends: ClassVar[bool] = True
    degree: Annotated[float, AtLeast(0, below=360)] = 10.0

    def __call__(self, rng: np.random.Generator, clip: np.ndarray) -> np.ndarray:
        """Returns the rotated clip."""
        return rotate(clip, rng.uniform(-self.degree, self.degree))


@dataclass(frozen=True)
class Perspective(Transform):
    """Applies `perspective` with corners within `PERSPECTIVE_REACH` of the edges."""

    blends: ClassVar[bool] = True

    def __call__(self, rng: np.random.Generator, clip: np.ndarray) -> np.ndarray:
        """Returns the stretched clip."""
        reach = PERSPECTIVE_REACH * _full_widths(clip)
        near = rng.integers(0, reach, 4)
        far = clip.shape[2] - reach
        return perspective(clip, near + np.array([0, far, 0, far]))


@dataclass(frozen=True)
class Affine(Transform):
    """Applies `affine` to three points near corners, moved within `AFFINE_REACH`.

    Like the reference, it confuses height and width: the points are near (0, 0), (h, 0) and (0, w).
    """

    blends: ClassVar[bool] = True

    def __call__(self, rng: np.random.Generator, clip: np.ndarray) -> np.ndarray:
        """Returns the moved clip."""
        _, height, width = clip.shape
        near = rng.integers(0, AFFINE_REACH * max(1, height // FULL_WIDTH), (2, 3, 2))
        corners = np.array([[0, 0], [height, 0], [0, width]])
        inwards = np.array([[1, 1], [-1, 1], [1, -1]])
        source, target = corners + inwards * near
        return affine(clip, source, target)


@dataclass(frozen=True)
class Erase(Transform):
    """Applies `erase` to one box, the same in all frames unless `per_frame` is set.

    Attributes:
        min_area: minimum area of the box, as a share of the frame.
        max_area: maximum area, likewise.
        aspect: minimum ratio of the box's height to its width; the maximum is 1 / aspect.
        per_frame: see `Transform`.
    """

    min_area: NotNegative = 0.05
    max_area: NotNegative = 0.2
    aspect: Annotated[float, AtLeast(0.01)] = 0.3
    per_frame: bool = False

    def __post_init__(self) -> None:
        if not (self.min_area <= self.max_area <= 1 and self.aspect <= 1):
            raise ConfigError(
                f"data.augment: erase has min_area {self.min_area}, max_area {self.max_area} and aspect "
                f"{self.aspect}; expected min_area ≤ max_area ≤ 1 and aspect ≤ 1"
            )

    def __call__(self, rng: np.random.Generator, clip: np.ndarray) -> np.ndarray:
        """Returns the clip with the box set to zero."""
        _, height, width = clip.shape
        for _ in range(ERASE_TRIES):
            area = rng.uniform(self.min_area, self.max_area) * height * width
            aspect = rng.uniform(self.aspect, 1 / self.aspect)
            box_height, box_width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if box_height < height and box_width < width:
                top = int(rng.integers(0, height - box_height + 1))
                left = int(rng.integers(0, width - box_width + 1))
                return erase(clip, top, left, box_height, box_width)
        return clip


TRANSFORMS: dict[str, Callable[..., Transform]] = {
    "perspective": Perspective,
    "cut": Cut,
    "flip": Flip,
    "rotate": Rotate,
    "affine": Affine,
    "erase": Erase,
}
"""Name in `data.augment` → class, whose fields the entry can set."""


class Augmentation:
    """Applies the configured transforms to a clip, each with its own probability; picklable."""

    def __init__(self, entries: Sequence[Sequence[Any]]):
        """Takes entries (name, probability), or (name, probability, {parameter: value}), in their order.

        Raises:
            ConfigError: if an entry is malformed, a name or parameter is unknown or invalid, a probability is
                outside [0, 1], cut is missing, or perspective, which needs uncut frames, comes after cut.
        """
        self._steps = [_step(entry) for entry in entries]
        kinds = [type(transform) for transform, _ in self._steps]
        if not any(isinstance(transform, Cut) and chance == 1 for transform, chance in self._steps):
            raise ConfigError(
                'data.augment: must hold ("cut", 1.0): models are trained and tested on cut frames'
            )
        self._needs_full_width = Perspective in kinds
        if self._needs_full_width and kinds.index(Perspective) > kinds.index(Cut):
            raise ConfigError("data.augment: perspective must come before cut, it needs the uncut frames")

    @property
    def blending(self) -> list[str]:
        """Names of the transforms that interpolate between pixels."""
        kinds = {type(transform) for transform, chance in self._steps if transform.blends and chance}
        return [name for name, kind in TRANSFORMS.items() if kind in kinds]

    def __call__(self, rng: np.random.Generator, clip: np.ndarray) -> np.ndarray:
        """Returns the augmented clip, cut and of the same type; it may be a view of the input."""
        steps = self._steps
        if self._needs_full_width and not _full_widths(clip):
            # Frames that are already cut on disk are trained without perspective, as in the reference.
            steps = [step for step in steps if not isinstance(step[0], Perspective)]
        for transform, probability in steps:
            parts = [clip[i : i + 1] for i in range(len(clip))] if transform.per_frame else [clip]
            parts = [
                transform(rng, part) if probability == 1 or rng.random() < probability else part
                for part in parts
            ]
            clip = np.concatenate(parts) if transform.per_frame else parts[0]
        return clip


def _step(entry: Sequence[Any]) -> tuple[Transform, float]:
    """Returns the transform of an entry of `data.augment`, and its probability."""
    fits = isinstance(entry, tuple | list) and len(entry) in (2, 3)
    if not fits or not all(isinstance(parameters, dict) for parameters in entry[2:]):
        raise ConfigError(
            f"data.augment: {entry!r} is no valid entry; expected (name, probability) or "
            '(name, probability, parameters), such as ("rotate", 0.3, {"degree": 15.0})'
        )
    name, probability, *rest = entry
    parameters = rest[0] if rest else {}
    kind = lookup("data.augment", TRANSFORMS, name)
    if isinstance(probability, bool) or not isinstance(probability, int | float) or not 0 <= probability <= 1:
        raise ConfigError(f"data.augment: probability of {name} is {probability}, not in [0, 1]")
    check_arguments(f"data.augment.{name}", name, kind, parameters, ())
    return kind(**parameters), probability
