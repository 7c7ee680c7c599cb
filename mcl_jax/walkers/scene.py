"""Simulates background subtraction of a walk through a small, noisy picture.

The picture is like old surveillance footage and action datasets: 160×120 grey pixels, a fixed camera, and a
person who enters on one side and leaves on the other. A pixel belongs to the mask if it differs enough from
the empty scene. So clothes as bright as the wall are lost, and shadows are included. Only the largest
connected piece is kept.
"""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from mcl_jax.data.prepare.silhouette import SkippedFrameError, normalize
from mcl_jax.walkers.render import CANVAS, PERSON, SUBPIXEL_BITS
from mcl_jax.walkers.style import WalkerStyle

ROWS, COLUMNS = 120, 160

# The order of painting, from the far side to the near side, and the colour of each part.
LAYERS = (
    ("upper_arm_right", "top"),
    ("forearm_right", "sleeve"),
    ("hand_right", "skin"),
    ("thigh_right", "trousers"),
    ("calf_right", "trousers"),
    ("shank_right", "trousers"),
    ("foot_right", "shoes"),
    ("thigh_left", "trousers"),
    ("calf_left", "trousers"),
    ("shank_left", "trousers"),
    ("foot_left", "shoes"),
    ("neck", "skin"),
    ("chest", "top"),
    ("belly", "top"),
    ("hem", "top"),
    ("trapezius_left", "top"),
    ("trapezius_right", "top"),
    ("skirt", "trousers"),
    ("coat", "top"),
    ("collar", "top"),
    ("skull", "skin"),
    ("hair", "hair"),
    ("upper_arm_left", "top"),
    ("forearm_left", "sleeve"),
    ("hand_left", "skin"),
    ("strap", "bag"),
    ("bag", "bag"),
)


@dataclasses.dataclass(frozen=True)
class Patch:
    """A shadow passing, a reflection, a change of exposure: an ellipse that goes along with the person.

    Attributes:
        begin: first moment, as a share of the walk.
        length: how long, as a share of the walk.
        shift: position of its centre relative to the feet, x and y, shares of the person's height.
        size: half axes, shares of the person's height.
        light: added to the brightness.
    """

    begin: float
    length: float
    shift: tuple[float, float]
    size: tuple[float, float]
    light: float


@dataclasses.dataclass(frozen=True)
class Scene:
    """One place at one time, and how the person looks there; brightness from 0 to 1.

    Attributes:
        background: brightness of the empty scene [ROWS, COLUMNS].
        colours: brightness of skin, hair, top, sleeve, trousers, shoes and bag.
        height: rows that the person fills.
        feet: row on which they walk.
        threshold: least difference from the background that counts as foreground.
        grain: standard deviation of the noise of a pixel.
        blur: standard deviation of the optics, pixels.
        median: width of the median filter, 1 for none.
        closing: width of the morphological closing, 1 for none.
        shadow: share of the light that a shadow takes away, 0 for none.
        fall: matrix [2, 2] that maps the person's pixels, relative to their feet, to the shadow's.
        wall: the same for a shadow on the wall behind: share of light, shift in x and y, scale.
        patches: parts of the picture beside the person that light up or darken for a while.
    """

    background: np.ndarray
    colours: dict[str, float]
    height: float
    feet: float
    threshold: float
    grain: float
    blur: float
    median: int
    closing: int
    shadow: float
    fall: np.ndarray
    wall: tuple[float, float, float, float]
    patches: tuple[Patch, ...] = ()


def _field(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """A smooth random field [ROWS, COLUMNS] of unit variance with that many bumps."""
    coarse = rng.standard_normal((rows, columns), np.float32)
    return cv2.resize(coarse, (COLUMNS, ROWS), interpolation=cv2.INTER_CUBIC)


def _draw_background(rng: np.random.Generator, feet: float, height: float) -> np.ndarray:
    """A wall or meadow, a floor of another brightness, a few posts or doors, and texture."""
    background = np.full((ROWS, COLUMNS), rng.uniform(0.2, 0.9), np.float32)
    edge = int(np.clip(feet - height * rng.uniform(-0.1, 0.9), 0, ROWS))
    background[edge:] = rng.uniform(0.2, 0.9)
    for _ in range(rng.poisson(1.0)):
        left, width = rng.uniform(0, COLUMNS), rng.uniform(4, 50)
        background[:edge, int(left) : int(left + width)] = rng.uniform(0.1, 0.95)
    background += rng.uniform(0, 0.10) * _field(rng, 4, 5) + rng.uniform(0, 0.06) * _field(rng, 24, 32)
    background += rng.uniform(0, 0.06) * rng.standard_normal((ROWS, COLUMNS), np.float32)
    return np.clip(background, 0.02, 1.0)


def draw_scene(rng: np.random.Generator, outfit: np.random.Generator, style: WalkerStyle) -> Scene:
    """Draw one scene: `style.scene` is how often things go wrong; clothes have colours out of `outfit`."""
    trouble = style.scene * rng.random()
    height = rng.uniform(50, 105)
    feet = ROWS - rng.uniform(2, max(3.0, ROWS - height - 2))
    background = _draw_background(rng, feet, height)
    outfit.random(16)  # these numbers have decided the cut of the clothes
    colours = {name: outfit.uniform(0, 1) for name in ("top", "trousers", "shoes", "bag")}
    colours |= {"skin": outfit.uniform(0.35, 0.8), "hair": outfit.uniform(0.0, 0.45)}
    colours["sleeve"] = colours["skin"] if outfit.random() < 0.25 else colours["top"]
    slope = rng.uniform(-1.5, 1.5)
    fall = np.array([[1.0, slope], [0.0, rng.choice([-1.0, 1.0]) * rng.uniform(0.03, 0.35)]])
    shadow = rng.uniform(0.1, 0.5) if rng.random() < 0.4 * trouble else 0.0
    depth = rng.uniform(0.05, 0.35) if rng.random() < 0.25 * trouble else 0.0
    wall = (depth, rng.uniform(-0.45, 0.45), rng.uniform(-0.1, 0.1), rng.uniform(0.85, 1.15))
    if rng.random() < 0.25 * style.scene:  # the background behind the upper body is as bright as the clothes
        behind = np.median(background[: int(feet - 0.4 * height)])
        alike = background + (colours["top"] + 0.04 * rng.standard_normal() - behind)
        background = np.clip(alike, 0.02, 1.0).astype(np.float32)
    return Scene(
        background=background,
        colours=colours,
        height=height,
        feet=feet,
        threshold=rng.uniform(0.03, 0.03 + 0.10 * trouble),
        grain=rng.uniform(0.0, 0.03 * trouble),
        blur=rng.uniform(0.4, 1.1),
        median=int(rng.choice([1, 3, 5])),
        closing=int(rng.choice([1, 1, 3, 5])),
        shadow=shadow,
        fall=fall,
        wall=wall,
        patches=_draw_patches(rng) if rng.random() < 0.35 * style.scene else (),
    )


def _draw_patches(rng: np.random.Generator) -> tuple[Patch, ...]:
    return tuple(
        Patch(
            begin=rng.uniform(-0.1, 1.0),
            length=(1 + rng.poisson(2.5)) / 16,
            shift=(rng.uniform(-0.35, 0.35), rng.uniform(-0.9, 0.0)),
            size=(rng.uniform(0.08, 0.4), rng.uniform(0.08, 0.4)),
            light=rng.uniform(-0.25, 0.25),
        )
        for _ in range(rng.integers(1, 4))
    )


def crossing(rng: np.random.Generator, scene: Scene, frames: int) -> np.ndarray:
    """Returns the person's column in each frame [frames], from the right edge to the left one."""
    reach = 0.5 * COLUMNS + scene.height * rng.uniform(-0.1, 0.12)
    return 0.5 * COLUMNS + np.linspace(reach, -reach, frames)


def film(
    rng: np.random.Generator,
    scene: Scene,
    names: tuple[str, ...],
    polygons: np.ndarray,
    columns: np.ndarray,
) -> np.ndarray:
    """Films a walk; returns raw masks [s, ROWS, COLUMNS] of 0 and 255.

    Args:
        rng: generator for changes from frame to frame.
        scene: the scene.
        names: one per part of the person.
        polygons: outlines [s, parts, corners, 2] on the canvas of `render.outlines`.
        columns: the person's column in each frame [s].
    """
    layers = [(names.index(name), scene.colours[colour]) for name, colour in LAYERS if name in names]
    order, colours = [part for part, _ in layers], [colour for _, colour in layers]
    scale = scene.height / PERSON
    person = (polygons[:, order] - 0.5 * CANVAS) * scale
    person[..., 1] -= 0.5 * scene.height  # relative to the feet
    noise = rng.standard_normal((ROWS + 40, COLUMNS + 40), np.float32) * np.float32(scene.grain)
    masks = np.zeros((len(polygons), ROWS, COLUMNS), np.uint8)
    for frame, (mask, parts, column) in enumerate(zip(masks, person, columns, strict=True)):
        place = np.array([column, scene.feet])
        picture = scene.background.copy()
        _cast_shadows(picture, scene, parts, place)
        _light_patches(picture, scene, place, frame / len(masks))
        _paint(picture, parts + place, colours)
        difference = cv2.GaussianBlur(picture - scene.background, (5, 5), scene.blur)
        top, left = rng.integers(40, size=2)
        difference += noise[top : top + ROWS, left : left + COLUMNS]
        mask[:] = _largest(scene, np.abs(difference) > scene.threshold)
    return masks


def _paint(picture: np.ndarray, shapes: np.ndarray, colours: Sequence[float]) -> None:
    fixed = np.round(shapes * (1 << SUBPIXEL_BITS)).astype(np.int32)
    for polygon, colour in zip(fixed, colours, strict=True):
        cv2.fillConvexPoly(picture, polygon, colour, shift=SUBPIXEL_BITS)


def _cast_shadows(picture: np.ndarray, scene: Scene, parts: np.ndarray, place: np.ndarray) -> None:
    share, right, down, size = scene.wall
    shift = np.array([right, down]) * scene.height
    for light, shape in (
        (scene.shadow, parts @ scene.fall.T),
        (share, size * parts + shift),
    ):
        if light > 0:
            dark = np.zeros((ROWS, COLUMNS), np.uint8)
            _paint(dark, shape + place, [255] * len(shape))
            soft = cv2.blur(dark, (3, 3)).astype(np.float32)
            picture *= 1 - soft * np.float32(light / 255)


def _light_patches(picture: np.ndarray, scene: Scene, place: np.ndarray, moment: float) -> None:
    for patch in scene.patches:
        if patch.begin <= moment < patch.begin + patch.length:
            lit = np.zeros_like(picture)
            centre = place + scene.height * np.array(patch.shift)
            axes = scene.height * np.array(patch.size)
            cv2.ellipse(
                lit, centre.astype(int).tolist(), axes.astype(int).tolist(), 0, 0, 360, patch.light, -1
            )
            picture += lit


def _largest(scene: Scene, found: np.ndarray) -> np.ndarray:
    mask: np.ndarray = found.astype(np.uint8)
    if scene.median > 1:
        mask = cv2.medianBlur(mask, scene.median)
    if scene.closing > 1:
        mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((scene.closing, scene.closing), np.uint8))
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if len(statistics) < 2:
        return np.zeros_like(mask)
    return np.where(labels == 1 + statistics[1:, cv2.CC_STAT_AREA].argmax(), 255, 0).astype(np.uint8)


def silhouettes(masks: np.ndarray) -> np.ndarray:
    """Returns silhouettes [s, 64, 64] of raw masks; an empty frame repeats the one before it."""
    found: list[np.ndarray | None] = []
    for mask in masks:
        try:
            found.append(normalize(mask))
        except SkippedFrameError:
            found.append(found[-1] if found else None)
    first = next((frame for frame in found if frame is not None), np.zeros((64, 64), np.uint8))
    return np.stack([first if frame is None else frame for frame in found])
