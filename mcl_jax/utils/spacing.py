"""How sequences lie behind each other in a packed row: what a model asks of packing."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Frames = TypeVar("Frames", int, np.ndarray)


@dataclass(frozen=True)
class Spacing:
    """Where a sequence may begin in a row; at least one empty slot lies between two.

    Attributes:
        multiple: a sequence begins at a multiple of it, as a stride over time needs.
        least: slots that a sequence of fewer frames has to itself, into which a model may repeat it.
    """

    multiple: int = 1
    least: int = 1

    def held(self, frames: Frames) -> Frames:
        """Returns the slots that a sequence of so many frames has to itself."""
        return frames + (frames < self.least) * (self.least - frames)

    def taken(self, frames: Frames) -> Frames:
        """Returns the slots from its first to where the next may begin."""
        return -(-(self.held(frames) + 1) // self.multiple) * self.multiple


SIDE_BY_SIDE = Spacing()
"""What a model without a stride over time needs."""
