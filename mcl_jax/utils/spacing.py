"""Distance between sequences in a packed row, as a model needs it."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Frames = TypeVar("Frames", int, np.ndarray)


@dataclass(frozen=True)
class Spacing:
    """The places in a row where a sequence may begin.

    Attributes:
        empty: slots that are empty between two sequences, at least; a window over time wider than three
            frames, made without `segment_ids`, needs more than one.
        multiple: a sequence begins at a multiple of it, as a stride over time needs.
        least: slots that a sequence of fewer frames has to itself, into which a model may repeat it.
    """

    empty: int = 1
    multiple: int = 1
    least: int = 1

    def held(self, frames: Frames) -> Frames:
        """Returns the slots that a sequence of so many frames has to itself."""
        return frames + (frames < self.least) * (self.least - frames)

    def taken(self, frames: Frames) -> Frames:
        """Returns the slots from its first to where the next may begin."""
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
"""What a model without a stride over time needs."""
