"""The spacing that a model needs between sequences in a packed row."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Frames = TypeVar("Frames", int, np.ndarray)


@dataclass(frozen=True)
class Spacing:
    """Says at which slots of a row a sequence may begin.

    Attributes:
        empty: least number of empty slots between two sequences; a window over time wider than three
            frames, made without `segment_ids`, needs more than one.
        multiple: a sequence begins at a multiple of this number, which a stride over time needs.
        least: number of slots reserved for a shorter sequence, so that a model may repeat its frames.
    """

    empty: int = 1
    multiple: int = 1
    least: int = 1

    def held(self, frames: Frames) -> Frames:
        """Returns the number of slots reserved for a sequence of so many frames."""
        return frames + (frames < self.least) * (self.least - frames)

    def taken(self, frames: Frames) -> Frames:
        """Returns the number of slots from its first slot to the first of the next sequence."""
        return -(-(self.held(frames) + self.empty) // self.multiple) * self.multiple


SIDE_BY_SIDE = Spacing()
"""The spacing for a model without a stride over time."""
