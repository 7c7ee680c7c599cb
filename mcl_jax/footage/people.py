"""Finds pieces of a mask that may be people."""

import dataclasses

import cv2
import numpy as np

_SMALLEST_SHARE = 0.03  # of the area of a person's largest piece; smaller pieces are specks
_SMALLEST_AREA = 0.01  # of a piece, as a share of the square of the smallest person's height
_UPRIGHT = 0.22, 0.75  # width over height of a person; two people above each other are slimmer
_GAP = 0.2  # largest gap between two pieces of one person, as a share of their joint height


@dataclasses.dataclass(frozen=True)
class Box:
    """A box in the picture, in pixels; predicted boxes are not rounded."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """The column after the last."""
        return self.left + self.width

    @property
    def foot(self) -> float:
        """The row after the last: the lower it stands, the nearer it is."""
        return self.top + self.height

    @property
    def middle(self) -> float:
        """The column in the middle."""
        return self.left + 0.5 * self.width

    def around(self, other: "Box") -> "Box":
        """The smallest box around both."""
        left, top = min(self.left, other.left), min(self.top, other.top)
        return Box(left, top, max(self.right, other.right) - left, max(self.foot, other.foot) - top)

    def shared(self, other: "Box") -> float:
        """Area that both boxes cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.foot, other.foot) - max(self.top, other.top)
        return max(width, 0.0) * max(height, 0.0)

    def overlap(self, other: "Box") -> float:
        """Intersection over union, 0 to 1."""
        shared = self.shared(other)
        union = self.width * self.height + other.width * other.height - shared
        return shared / union if union else 0.0


@dataclasses.dataclass(frozen=True)
class Blob:
    """A piece of the mask, or a few pieces above each other.

    Attributes:
        box: where it is, in whole pixels.
        mask: uint8 [box.height, box.width] of 0 and 255.
        colour: mean CIELAB of its upper and its lower half, float64 [6].
        columns: number of columns of the picture.
        cut: whether the edge of the picture cuts it.
    """

    box: Box
    mask: np.ndarray
    colour: np.ndarray
    columns: int
    cut: bool

    @property
    def area(self) -> int:
        """Pixels that it covers."""
        return int(np.count_nonzero(self.mask))


def find_blobs(picture: np.ndarray, mask: np.ndarray, min_height: int) -> list[Blob]:
    """Finds pieces at least as high as the smallest person, or cut by the edge and half as high.

    Args:
        picture: uint8 [h, w, 3], BGR.
        mask: uint8 [h, w] of 0 and 255.
        min_height: rows of the smallest person.

    Returns:
        The pieces, from left to right.
    """
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask)
    areas = statistics[:, cv2.CC_STAT_AREA]
    large = [i for i in range(1, len(areas)) if areas[i] >= _SMALLEST_AREA * min_height**2]
    blobs = []
    for parts in _piles([(i, Box(*map(float, statistics[i, :4]))) for i in large]):
        kept = [i for i in parts if areas[i] >= _SMALLEST_SHARE * areas[parts].max()]
        blob = _blob(picture, labels, statistics, kept)
        if blob.box.height >= (0.5 if blob.cut else 1.0) * min_height:
            blobs.append(blob)
    return sorted(blobs, key=lambda blob: (blob.box.left, blob.box.top))


def _piles(pieces: list[tuple[int, Box]]) -> list[list[int]]:
    """Joins pieces that lie closely above each other: a belt as bright as the wall may split a person."""
    piles: list[tuple[list[int], Box]] = []
    for label, box in sorted(pieces, key=lambda piece: piece[1].top):
        parts = [label]
        for pile in [pile for pile in piles if _is_above(pile[1], box)]:
            piles.remove(pile)
            parts, box = pile[0] + parts, pile[1].around(box)
        piles.append((parts, box))
    return [parts for parts, _ in piles]


def _is_above(upper: Box, lower: Box) -> bool:
    columns = min(upper.right, lower.right) - max(upper.left, lower.left)
    gap = lower.top - upper.foot
    together = max(upper.foot, lower.foot) - min(upper.top, lower.top)
    slim, wide = _UPRIGHT
    return (
        columns >= 0.5 * min(upper.width, lower.width)
        and gap <= _GAP * together
        and slim * together <= upper.around(lower).width <= wide * together
    )


def _blob(picture: np.ndarray, labels: np.ndarray, statistics: np.ndarray, parts: list[int]) -> Blob:
    left, top = statistics[parts, :2].min(axis=0)
    right, foot = (statistics[parts, :2] + statistics[parts, 2:4]).max(axis=0)
    rows, columns = labels.shape
    cut = left <= 1 or top <= 1 or right >= columns - 1 or foot >= rows - 1
    mask = np.where(np.isin(labels[top:foot, left:right], parts), 255, 0).astype(np.uint8)
    pixels = np.ascontiguousarray(picture[top:foot, left:right])
    box = Box(float(left), float(top), float(right - left), float(foot - top))
    return Blob(box, mask, _colour(pixels, mask), columns, bool(cut))


def _colour(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    lab = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_BGR2LAB)
    half = max(1, len(mask) // 2)
    halves = ((lab[:half], mask[:half]), (lab[half:], mask[half:]))
    # In a piece of one row, one half has no pixels and so no colour.
    return np.concatenate(
        [cv2.mean(part, inside)[:3] if inside.size else (0.0,) * 3 for part, inside in halves]
    )
