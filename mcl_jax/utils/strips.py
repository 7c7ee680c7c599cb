"""Where the parts of an embedding lie in a frame."""

from collections.abc import Sequence
from typing import NamedTuple


class Strip(NamedTuple):
    """The horizontal strip of a frame that a part of an embedding describes.

    Attributes:
        top: its upper edge, as a share of the height: 0 is the top of the frame.
        bottom: its lower edge; 1 is the bottom of the frame.
        branch: which branch of the model it belongs to; "" for a model that has one.
        stacked: of a model that stacks the features of its branches in height before their maximum over time:
            the place of this one, from 0, and how many there are.
    """

    top: float
    bottom: float
    branch: str = ""
    stacked: tuple[int, int] = (0, 1)


def equal_strips(
    counts: Sequence[int], branch: str = "", stacked: tuple[int, int] = (0, 1)
) -> tuple[Strip, ...]:
    """Returns the strips of frames that are cut into equal parts, several times over.

    Args:
        counts: numbers of strips, such as (16, 8, 4, 2, 1).
        branch: see `Strip`.
        stacked: see `Strip`.
    """
    return tuple(Strip(i / count, (i + 1) / count, branch, stacked) for count in counts for i in range(count))
