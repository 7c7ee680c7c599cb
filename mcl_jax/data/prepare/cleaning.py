"""Optional cleaning of raw frames before silhouettes are cut out of them; off by default."""

import dataclasses
import re
from collections.abc import Callable, Iterable
from typing import Any

import cv2
import numpy as np

from mcl_jax.errors import DataError

_NUMBER = re.compile(r"([0-9]+)")  # split() with it returns the numbers at odd places

ORDERS: dict[str, Callable[[str], Any]] = {
    "name": lambda name: name,
    "number": lambda name: [int(part) if i % 2 else part for i, part in enumerate(_NUMBER.split(name))],
}
"""Order of the frames of a walk → sort key of a file name; the reference uses "name"."""


@dataclasses.dataclass(frozen=True)
class Cleaning:
    """Settings for cleaning raw frames; picklable.

    Attributes:
        threshold: pixels of at least this value become 255, all others 0; 0 changes nothing.
        largest_piece: whether to keep only the largest connected piece of a frame.
        order: a key of `ORDERS`.
    """

    threshold: int = 0
    largest_piece: bool = False
    order: str = "name"

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            DataError: naming the flag with an invalid value.
        """
        if not 0 <= self.threshold <= 255:
            raise DataError(
                f"--threshold: {self.threshold}; give a grey level from 1 to 255, or 0 for no threshold"
            )
        if self.order not in ORDERS:
            raise DataError(f"--order: no {self.order!r}; there are {', '.join(ORDERS)}")

    def clean(self, image: np.ndarray) -> np.ndarray:
        """Cleans a raw frame, uint8 [h, w]."""
        if self.threshold:
            image = np.where(image >= self.threshold, np.uint8(255), np.uint8(0))
        return largest_piece(image) if self.largest_piece else image

    def sort(self, names: Iterable[str]) -> list[str]:
        """Returns the names of frames, sorted."""
        return sorted(names, key=ORDERS[self.order])

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that differ from the defaults; stored in the output folder, compared by later runs."""
        default = Cleaning()
        return {key: value for key, value in vars(self).items() if value != getattr(default, key)}


def largest_piece(image: np.ndarray) -> np.ndarray:
    """Returns a frame, uint8 [h, w], with only its largest connected piece."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((image > 0).astype(np.uint8), connectivity=8)
    if count <= 2:  # background and one piece
        return image
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    return np.where(labels == largest, image, np.uint8(0))
