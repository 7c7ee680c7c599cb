"""Simulates mistakes of a person segmenter: edges, holes, lost limbs, shadows, bits of background.

As in real masks, errors last for several frames, and move with the body or stay with the scene. Errors drawn
anew for each frame would average out over a sequence and teach a model nothing.
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from mcl_jax.walkers.render import CANVAS, PERSON
from mcl_jax.walkers.style import WalkerStyle

LOSSES = (
    ("foot_left",),
    ("foot_right",),
    ("foot_left", "foot_right"),
    ("foot_left", "shank_left"),
    ("foot_right", "shank_right"),
    ("hand_left",),
    ("hand_right",),
    ("hand_left", "forearm_left"),
    ("hand_right", "forearm_right"),
    ("skull", "hair"),
)
FIELD = 20  # rows and columns of the random field behind ragged edges
MEMORY = 0.7  # correlation of that field from one frame to the next


def _episodes(rng: np.random.Generator, frames: int, rate: float, length: float) -> Iterator[slice]:
    """Yields episodes of errors: on average `rate` in 60 frames, each `length` frames long."""
    for _ in range(rng.poisson(rate * frames / 60)):
        start = int(rng.integers(frames))
        yield slice(start, min(frames, start + 1 + rng.poisson(length - 1)))


def _scrap(rng: np.random.Generator, radius: float) -> np.ndarray:
    """An irregular blob [k, 2] about the origin."""
    angle = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    reach = radius * rng.uniform(0.7, 1.3, size=(10, 1))
    return reach * np.stack([np.cos(angle), np.sin(angle)], axis=1) * rng.uniform(0.6, 1.4, size=2)


def _fill(mask: np.ndarray, polygon: np.ndarray, value: int) -> None:
    cv2.fillPoly(mask, [np.round(polygon).astype(np.int32)], value)


def visible_parts(
    rng: np.random.Generator, style: WalkerStyle, names: Sequence[str], frames: int
) -> np.ndarray:
    """Returns which parts the segmenter sees, [s, parts] booleans; sometimes it loses a limb."""
    visible = np.ones((frames, len(names)), bool)
    for spell in _episodes(rng, frames, 2.0 * style.noise, 4):
        lost = LOSSES[rng.integers(len(LOSSES))]
        visible[spell, [names.index(name) for name in lost]] = False
    return visible


def add_scraps(rng: np.random.Generator, style: WalkerStyle, masks: np.ndarray, polygons: np.ndarray) -> None:
    """Paint shadows and background next to the person, holes inside, in place."""
    frames, floor = len(masks), polygons[..., 1].max(axis=(1, 2))
    middle = polygons.mean(axis=(1, 2))
    for spell in _episodes(rng, frames, 0.7 * style.noise, 12):  # a shadow at the feet
        shadow = _scrap(rng, 0.08 * PERSON) * np.array([1.6, 0.25])
        shadow[:, 0] += rng.normal(0, 0.08 * PERSON)
        for t in range(frames)[spell]:
            _fill(masks[t], shadow + np.array([middle[t, 0], floor[t]]), 255)
    for spell in _episodes(rng, frames, 0.8 * style.noise, 4):  # an object in the background
        scrap, side = _scrap(rng, PERSON * rng.uniform(0.012, 0.04)), rng.choice([-1.0, 1.0])
        scrap += [0.5 * CANVAS + side * PERSON * rng.uniform(0.14, 0.3), CANVAS * rng.uniform(0.15, 0.9)]
        drift = [-side * PERSON * rng.uniform(0, 0.013), 0.0]
        for t in range(frames)[spell]:
            scrap += drift
            _fill(masks[t], scrap, 255)
    for spell in _episodes(rng, frames, 3.0 * style.noise, 3):  # a hole that moves with the body
        part, corner = rng.integers(polygons.shape[1]), rng.integers(polygons.shape[2])
        hole = _scrap(rng, PERSON * rng.uniform(0.01, 0.045))
        for t in range(frames)[spell]:
            _fill(masks[t], hole + polygons[t, part, corner], 0)


def roughen(rng: np.random.Generator, style: WalkerStyle, masks: np.ndarray) -> np.ndarray:
    """Make the edges ragged: blur each mask and cut it at a level that wanders over the image and in time."""
    # Some cameras make people look fatter or thinner.
    level = np.clip(127 + style.noise * 10 * rng.standard_normal(), 80, 175)
    field = rng.standard_normal((FIELD, FIELD), np.float32)
    rough = np.empty_like(masks)
    for mask, out in zip(masks, rough, strict=True):
        fresh = rng.standard_normal((FIELD, FIELD), np.float32)
        field = MEMORY * field + np.float32(np.sqrt(1 - MEMORY**2)) * fresh
        threshold = np.clip(level + style.noise * 27 * field, 20, 235).astype(np.uint8)
        threshold = cv2.resize(threshold, (CANVAS, CANVAS), interpolation=cv2.INTER_CUBIC)
        cv2.compare(cv2.blur(mask, (7, 7)), threshold, cv2.CMP_GT, dst=out)
    return rough
