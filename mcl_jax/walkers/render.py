"""Renders a solid figure to raw masks: camera and outlines."""

import dataclasses

import cv2
import numpy as np

from mcl_jax.walkers.figure import Figure

CANVAS = 160  # rows and columns of a raw mask
PERSON = 144  # rows that the person fills; the rest leaves room for a segmenter's mistakes
DIRECTIONS = 20  # corners of an outline
SUBPIXEL_BITS = 4


@dataclasses.dataclass(frozen=True)
class Camera:
    """A fixed camera beside the path; the walker passes the aim of all cameras in mid sequence.

    Attributes:
        azimuth: where it stands around the aim, radians: 0 ahead of the walker, π/2 to the left.
        distance, height: distance of the lens from the aim, and height above the floor, in statures.
        roll: rotation of the image, radians.
    """

    azimuth: float
    distance: float
    height: float
    roll: float


def outlines(figure: Figure, camera: Camera, travelled: np.ndarray) -> np.ndarray:
    """Project every part to a convex polygon.

    The hull of ellipsoids projects to the hull of ellipses, and the support point of a hull is the support
    point of whichever ellipse reaches farthest: one formula for heads, limbs, coats and bags.

    Args:
        figure: the person walking in place.
        camera: the camera.
        travelled: distance from the aim along the path [s], shares of stature.

    Returns:
        Polygons [s, parts, DIRECTIONS, 2] as x, y on the canvas, the whole person scaled to PERSON rows and
        centred.
    """
    # Half of the time is spent here, and float32 halves it. Coordinates move with the walker.
    lens = np.empty((len(travelled), 3), np.float32)
    lens[:, 0] = camera.distance * np.cos(camera.azimuth) - travelled
    lens[:, 1] = camera.distance * np.sin(camera.azimuth)
    lens[:, 2] = camera.height
    ahead = np.array([0.0, 0.0, 0.5], np.float32) - lens
    ahead /= np.linalg.norm(ahead, axis=-1, keepdims=True)
    right = np.cross(ahead, np.array([0.0, 0.0, 1.0], np.float32))
    right /= np.linalg.norm(right, axis=-1, keepdims=True)
    down = np.cross(ahead, right)
    cos, sin = np.float32(np.cos(camera.roll)), np.float32(np.sin(camera.roll))
    image = np.stack([cos * right + sin * down, cos * down - sin * right], axis=1)  # [s, 2, 3]

    offset = figure.centres - lens[:, None, None]
    depth = np.einsum("spbi,si->spb", offset, ahead)
    centre = np.einsum("sji,spbi->spbj", image, offset) / depth[..., None]
    # Perspective within an ellipsoid is ignored: each is scaled by the depth of its centre.
    root = image[:, None, None] @ figure.axes / depth[..., None, None]

    angle = np.linspace(0, 2 * np.pi, DIRECTIONS, endpoint=False, dtype=np.float32)
    normals = np.stack([np.cos(angle), np.sin(angle)])  # [2, k]
    reach = (root @ root.swapaxes(-1, -2)) @ normals  # [s, p, b, 2, k]
    radius = np.sqrt(np.sum(reach * normals, axis=-2))  # [s, p, b, k]
    farthest = np.argmax(centre @ normals + radius, axis=2)[:, :, None, None]
    points = centre[..., None] + reach / radius[..., None, :]
    points = np.take_along_axis(points, farthest, axis=2)[:, :, 0].swapaxes(-1, -2)

    low, high = points.min(axis=(1, 2)), points.max(axis=(1, 2))  # [s, 2]
    scale = PERSON / (high - low)[:, 1]
    return (points - (0.5 * (low + high))[:, None, None]) * scale[:, None, None, None] + 0.5 * CANVAS


def draw(polygons: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Masks [s, CANVAS, CANVAS] of 0 and 255: the union of the visible [s, parts] polygons of each frame."""
    fixed = np.round(polygons * (1 << SUBPIXEL_BITS)).astype(np.int32)
    masks = np.zeros((len(polygons), CANVAS, CANVAS), np.uint8)
    for mask, parts, shown in zip(masks, fixed, visible, strict=True):
        for part in parts[shown]:
            cv2.fillConvexPoly(mask, part, 255, shift=SUBPIXEL_BITS)
    return masks
