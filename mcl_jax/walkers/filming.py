"""Films walkers with a fixed camera, into a real video file.

`scene` imitates the masks of such a camera; this module makes the pictures: a coloured, textured wall and
floor, people in several colours with shadows at their feet, new noise in each frame, and the losses of a
video codec.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from mcl_jax.errors import DataError
from mcl_jax.footage.video import VideoFile
from mcl_jax.walkers.gait import FRAMES_PER_SECOND
from mcl_jax.walkers.render import CANVAS, PERSON, SUBPIXEL_BITS, Camera, outlines
from mcl_jax.walkers.scene import LAYERS
from mcl_jax.walkers.sequence import draw_walk
from mcl_jax.walkers.style import CONDITIONS, WalkerStyle, generator

_NOISE = 4.0  # standard deviation of a pixel, of 255
_SHADOW = 0.75  # share of the light that a shadow leaves
_PACE = 0.8  # statures a second, roughly; only to estimate how long a crossing takes
_EMPTY = 0.4  # seconds of empty scene before the first person and after the last


@dataclasses.dataclass(frozen=True)
class Passer:
    """A person who crosses the picture.

    Attributes:
        subject: number of the person in the population, at least 0.
        condition: one of CONDITIONS.
        height: their height as a share of the picture's rows; larger means nearer.
        to_the_right: whether they walk to the right; to the left is the direction of view 090.
        delay: seconds from the first frame until they enter.

    Raises:
        DataError: an attribute is invalid.
    """

    subject: int
    condition: str = "nm-01"
    height: float = 0.6
    to_the_right: bool = False
    delay: float = 0.0

    def __post_init__(self) -> None:
        if self.subject < 0 or self.condition not in CONDITIONS:
            raise DataError(
                f"subject {self.subject}, condition {self.condition!r}: must be at least 0, one of CONDITIONS"
            )
        if not 0.1 <= self.height <= 0.9 or not 0 <= self.delay <= 600:
            raise DataError(
                f"height {self.height} must be from 0.1 to 0.9, delay {self.delay} from 0 to 600 s"
            )


def film(
    path: str | Path,
    passers: Sequence[Passer],
    *,
    seed: int = 0,
    size: tuple[int, int] = (640, 360),
    style: WalkerStyle | None = None,
) -> int:
    """Writes a video of people who cross the picture, at 25 frames a second.

    Args:
        path: the file; .mp4 is written as MPEG-4, .avi as motion JPEG.
        passers: the people who cross.
        seed: random seed of the population, see `render_sequence`, and of the scene.
        size: columns and rows of the picture, even numbers of at least 64.
        style: difficulty; the default WalkerStyle() if None.

    Returns:
        The number of frames.

    Raises:
        UserError: an argument cannot be used, or the file cannot be written.
    """
    with VideoFile(Path(path), FRAMES_PER_SECOND) as video:
        for picture, _ in filmed_frames(passers, seed=seed, size=size, style=style):
            video.add(picture)
    return video.frames


def filmed_frames(
    passers: Sequence[Passer],
    *,
    seed: int = 0,
    size: tuple[int, int] = (640, 360),
    style: WalkerStyle | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the frames of `film`, before the codec, with their true masks.

    Returns:
        Pictures uint8 [h, w, 3], BGR, and masks bool [people, h, w]: the visible pixels of each person.

    Raises:
        DataError: an argument cannot be used.
    """
    columns, rows = size
    if not passers or min(size) < 64 or columns % 2 or rows % 2:
        raise DataError(
            f"{len(passers)} people in {columns}×{rows}: needs at least one, and even sides of at least 64"
        )
    place = _draw_place(generator(seed, "place"), rows, columns)
    crossings = [_Crossing(seed, passer, size, style or WalkerStyle()) for passer in passers]
    nearest_last = sorted(range(len(passers)), key=lambda i: passers[i].height)
    grain = generator(seed, "grain")
    noise = grain.standard_normal((rows + 40, columns + 40, 3), np.float32) * np.float32(_NOISE)
    for frame in range(max(crossing.end for crossing in crossings) + round(_EMPTY * FRAMES_PER_SECOND)):
        picture = place.copy()
        masks = np.zeros((len(passers), rows, columns), bool)
        for i in nearest_last:
            mask = crossings[i].paint(picture, frame)
            masks &= ~mask
            masks[i] = mask
        top, left = grain.integers(40, size=2)
        picture = cv2.GaussianBlur(picture, (3, 3), 0.6) + noise[top : top + rows, left : left + columns]
        yield np.clip(np.round(picture), 0, 255).astype(np.uint8), masks


class _Crossing:
    """One person's way through the picture."""

    def __init__(self, seed: int, passer: Passer, size: tuple[int, int], style: WalkerStyle) -> None:
        self._columns, rows = size
        height = passer.height * rows
        way = self._columns / height + 1.2  # statures, until they are out of the picture on the other side
        frames = round(way / _PACE * FRAMES_PER_SECOND)
        walk = draw_walk(seed, passer.subject, passer.condition, frames, style)
        camera = Camera(np.pi / 2 + walk.heading, 7.0 / walk.stature_m, 1.4 / walk.stature_m, 0.0)
        # As with a long lens, perspective does not change while they cross.
        polygons = outlines(walk.figure, camera, np.zeros(frames)) - 0.5 * CANVAS
        side = -1.0 if not passer.to_the_right else 1.0
        polygons[..., 0] *= -side
        names = walk.figure.names
        layers = [(names.index(name), kind) for name, kind in LAYERS if name in names]
        self._shapes = polygons[:, [part for part, _ in layers]] * (height / PERSON)
        clothes = _draw_clothes(generator(seed, "dress", passer.subject))
        self._colours = [clothes[kind] for _, kind in layers]
        self._middles = 0.5 * self._columns + side * height * walk.travelled
        # Nearer people are lower in the picture, because all walk on one floor.
        self._foot = rows * (0.50 + 0.48 * passer.height)
        self._height = height
        self._start = round((_EMPTY + passer.delay) * FRAMES_PER_SECOND)
        self.end = self._start + frames

    def paint(self, picture: np.ndarray, frame: int) -> np.ndarray:
        """Paints the person; returns the pixels that they cover, bool [h, w]."""
        mask = np.zeros(picture.shape[:2], np.uint8)
        if not self._start <= frame < self.end:
            return mask.astype(bool)
        step = frame - self._start
        place = np.array([self._middles[step], self._foot - 0.5 * self._height])
        centre = (round(float(place[0])), round(self._foot))
        axes = (round(0.28 * self._height), max(1, round(0.03 * self._height)))
        cv2.ellipse(mask, centre, axes, 0, 0, 360, 255, cv2.FILLED)
        picture *= 1 - (1 - _SHADOW) / 255 * cv2.blur(mask, (5, 5)).astype(np.float32)[..., None]
        mask[:] = 0
        shapes = np.round((self._shapes[step] + place) * (1 << SUBPIXEL_BITS)).astype(np.int32)
        for shape, colour in zip(shapes, self._colours, strict=True):
            cv2.fillConvexPoly(picture, shape, colour, shift=SUBPIXEL_BITS)
            cv2.fillConvexPoly(mask, shape, 255, shift=SUBPIXEL_BITS)
        return mask > 0


def _draw_clothes(rng: np.random.Generator) -> dict[str, tuple[float, float, float]]:
    """Returns a colour, BGR, for each kind of layer; darker or stronger than the scene's colours."""
    top, trousers = rng.uniform(10, 200, 3), rng.uniform(10, 80, 3)
    top[rng.integers(3)] = rng.uniform(0, 40)
    skin = np.array([90.0, 120.0, 180.0]) * rng.uniform(0.5, 1.1)
    colours = {
        "skin": skin,
        "hair": rng.uniform(10, 60) * np.array([0.7, 0.9, 1.1]),
        "top": top,
        "sleeve": 0.9 * top,
        "trousers": trousers,
        "shoes": rng.uniform(10, 50, 3),
        "bag": rng.uniform(10, 140, 3),
    }
    return {kind: (float(c[0]), float(c[1]), float(c[2])) for kind, c in colours.items()}


def _draw_place(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """A light wall and floor with stains, tiles and fine texture, float32 [rows, columns, 3]."""
    place = np.empty((rows, columns, 3), np.float32)
    edge = rows // 2
    place[:edge] = rng.uniform(150, 190) + rng.uniform(-12, 12, 3)
    place[edge:] = rng.uniform(165, 205) + rng.uniform(-12, 12, 3)
    for bumps, strength in ((6, 14.0), (40, 9.0)):
        coarse = rng.standard_normal((bumps, bumps * columns // rows), np.float32)
        place += strength * cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC)[..., None]
    for column in range(0, columns, max(8, columns // 12)):
        place[:edge, column : column + 2] -= 25
    for row in range(edge, rows, max(6, rows // 14)):
        place[row : row + 1] -= 18
    place += 6.0 * rng.standard_normal(place.shape, np.float32)
    return np.clip(place, 60, 240)
