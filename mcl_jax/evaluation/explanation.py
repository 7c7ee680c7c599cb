"""The explanation of a distance between two walks, as data for a page."""

from dataclasses import dataclass

import numpy as np

from mcl_jax.utils.strips import Strip


@dataclass(frozen=True)
class ExplainedWalk:
    """One of the two walks.

    Attributes:
        name: as the user gave it.
        silhouettes: uint8 [s, h, w].
        shares: of the maxima over time of each part, those that each frame, or group of frames, gave,
            [parts, t]; None if the model takes none.
        group: frames of a group.
        saliency: size of the gradient of every pixel, [s, h, w].
    """

    name: str
    silhouettes: np.ndarray
    shares: np.ndarray | None
    group: int
    saliency: np.ndarray


@dataclass(frozen=True)
class Explanation:
    """Contributions of parts, frames and pixels to a distance.

    Attributes:
        walks: both.
        model: its name.
        distances: of each part; their mean is the distance of the walks.
        strips: where each part lies; empty if the model does not say.
        reach: frames before and after one that its features depend on, too.
    """

    walks: tuple[ExplainedWalk, ExplainedWalk]
    model: str
    distances: np.ndarray
    strips: tuple[Strip, ...]
    reach: int
