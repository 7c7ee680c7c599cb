"""From the mask of a picture to the pieces that may be people."""

import dataclasses

import cv2
import numpy as np

_SMALLEST_SHARE = 0.03  # of the largest piece of a person; smaller ones are specks
_REACH = 0.25  # how far above each other pieces of one person lie, in heights of the smallest person


@dataclasses.dataclass(frozen=True)
class Box:
    """Where something is, in pixels; not rounded where it is foretold."""

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

    def shared(self, other: "Box") -> float:
        """Area that both cover."""
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
    """A piece of the mask, or a few above each other.

    Attributes:
        box: where it is, in whole pixels.
        mask: uint8 [box.height, box.width] of 0 and 255.
        colour: mean CIELAB of its upper and its lower half, float64 [6].
        cut: whether the edge of the picture cuts it.
    """

    box: Box
    mask: np.ndarray
    colour: np.ndarray
    cut: bool

    @property
    def area(self) -> int:
        """Pixels that it covers."""
        return int(np.count_nonzero(self.mask))


def find_blobs(picture: np.ndarray, mask: np.ndarray, min_height: int) -> list[Blob]:
    """Finds what is at least as high as the smallest person, or cut by the edge and at least half as high.

    Args:
        picture: uint8 [h, w, 3], BGR.
        mask: uint8 [h, w] of 0 and 255.
        min_height: rows of the smallest person.

    Returns:
        The pieces, from left to right.
    """
    reach = np.ones((1 + 2 * round(0.5 * _REACH * min_height), 3), np.uint8)
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(cv2.dilate(mask, reach))
    blobs = []
    for label in range(1, len(statistics)):
        left, top, width, height = statistics[label, :4]
        region = np.s_[top : top + height, left : left + width]
        piece = np.where(labels[region] == label, mask[region], 0).astype(np.uint8)
        blob = _blob(picture, _without_specks(piece), left, top)
        if blob is not None and blob.box.height >= (0.5 if blob.cut else 1.0) * min_height:
            blobs.append(blob)
    return sorted(blobs, key=lambda blob: (blob.box.left, blob.box.top))


def _without_specks(mask: np.ndarray) -> np.ndarray:
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask)
    areas = statistics[:, cv2.CC_STAT_AREA]
    wanted = areas >= _SMALLEST_SHARE * areas[1:].max(initial=0)
    wanted[0] = False
    return np.where(wanted[labels], 255, 0).astype(np.uint8)


def _blob(picture: np.ndarray, mask: np.ndarray, left: int, top: int) -> Blob | None:
    x, y, width, height = cv2.boundingRect(mask)
    if not width:
        return None
    mask = np.ascontiguousarray(mask[y : y + height, x : x + width])
    left, top = left + x, top + y
    rows, columns = picture.shape[:2]
    cut = left <= 1 or top <= 1 or left + width >= columns - 1 or top + height >= rows - 1
    pixels = np.ascontiguousarray(picture[top : top + height, left : left + width])
    return Blob(Box(left, top, width, height), mask, _colour(pixels, mask), cut)


def _colour(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    lab = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_BGR2LAB)
    half = max(1, len(mask) // 2)
    halves = ((lab[:half], mask[:half]), (lab[half:], mask[half:]))
    # A half without a pixel has no colour to differ in: a piece one row high.
    return np.concatenate([cv2.mean(part, inside)[:3] if inside.size else (0.0,) * 3 for part, inside in halves])
