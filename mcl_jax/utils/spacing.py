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

    def check(self, segment_ids: np.ndarray) -> None:
        """Checks the places of sequences in rows, on the host: on a device a model takes them as they are.

        Args:
            segment_ids: [rows, slots], the sequence within its row, −1 at empty slots.

        Raises:
            ValueError: naming the first row where a sequence begins elsewhere than this allows.
        """
        edge = np.full((len(segment_ids), 1), -1)
        before, behind = np.hstack([edge, segment_ids[:, :-1]]), np.hstack([segment_ids[:, 1:], edge])
        rows, starts = np.nonzero((segment_ids >= 0) & (segment_ids != before))
        ends = np.nonzero((segment_ids >= 0) & (segment_ids != behind))[1] + 1
        near = (rows[1:] == rows[:-1]) & (
            starts[1:] < starts[:-1] + self.held(ends - starts)[:-1] + self.empty
        )
        wrong = np.concatenate([rows[starts % self.multiple > 0], rows[1:][near]])
        if wrong.size:
            raise ValueError(f"row {wrong.min()} of a batch is not spaced as the model needs it: {self}")


SIDE_BY_SIDE = Spacing()
"""The spacing for a model without a stride over time."""
