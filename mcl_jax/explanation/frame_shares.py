"""Share of each frame in the maxima over time, for each part of an embedding."""

from collections.abc import Sequence

import numpy as np

from mcl_jax.utils.strips import Strip


def frame_shares(features: np.ndarray, strips: Sequence[Strip]) -> np.ndarray:
    """Returns the share of each part's maxima over time that each frame gave.

    Frames with equal maxima share them evenly, as they share the gradient (`layers.temporal_max`). A channel
    that is the same in all frames says nothing and is not counted; where all are, frames share evenly.

    Args:
        features: [frames, height, ...], of which a model took the maximum over frames.
        strips: of each part, which is made of the rows of its strip.

    Returns:
        [parts, frames] float64; each part's sum is 1.
    """
    frames, height = features.shape[:2]
    cells = features.reshape(frames, height, -1)
    won = cells == cells.max(axis=0)
    won[:, won.all(axis=0)] = False
    maxima = (won / np.maximum(won.sum(axis=0), 1)).sum(axis=2)  # of each frame and row
    shares = _rows_of(strips, height) @ maxima.T
    total = shares.sum(axis=1, keepdims=True)
    return np.where(total > 0, shares / np.where(total > 0, total, 1), 1 / frames)


def _rows_of(strips: Sequence[Strip], height: int) -> np.ndarray:
    """Returns how much of each row belongs to each strip, [strips, height], from 0 to 1."""
    places = [
        ((place + strip.top) / branches, (place + strip.bottom) / branches)
        for strip in strips
        for place, branches in (strip.stacked,)
    ]
    tops, bottoms = np.array(places).T[..., None] * height
    edges = np.arange(height)
    return np.clip(np.minimum(bottoms, edges + 1) - np.maximum(tops, edges), 0, 1)
