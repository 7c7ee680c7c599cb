"""Explains the distance between two walks: by part of the body, by frame and by pixel."""

from collections.abc import Sequence

import numpy as np

from mcl_jax.data.feed.augment import cut
from mcl_jax.errors import DataError
from mcl_jax.evaluation.distances import NORM_EPS, part_distances
from mcl_jax.evaluation.explanation import ExplainedWalk, Explanation
from mcl_jax.explanation.frame_shares import frame_shares
from mcl_jax.explanation.probing import Probed, probe_of, reach_of
from mcl_jax.models.registry import Model
from mcl_jax.utils.pytrees import ArrayTree

MOST_FRAMES = 300
"""Of a walk: a gradient keeps some of what the model computed of every frame."""

_EQUAL = 1e-5  # of the largest number: more than rounding


def check_length(name: str, frames: int) -> None:
    """Checks that a walk is short enough to explain.

    Args:
        name: of the walk.
        frames: how many it has.

    Raises:
        DataError: if it has too many.
    """
    if frames > MOST_FRAMES:
        raise DataError(
            f"{name}: has {frames} frames, too many to explain; give a piece of it of at most {MOST_FRAMES}"
        )


class Explainer:
    """Explains distances by one model, whose program is compiled once for walks of near lengths."""

    def __init__(self, model: Model, params: ArrayTree, batch_stats: ArrayTree):
        """Takes the model in float32, its parameters and its running statistics."""
        self._model = model
        self._probe = probe_of(model, params, batch_stats)

    def explain(
        self,
        walks: Sequence[np.ndarray],
        names: Sequence[str],
        embeddings: np.ndarray,
        *,
        metric: str = "euc",
    ) -> Explanation:
        """Returns what the distance between two walks is made of.

        Args:
            walks: two, uint8 [s, 64, 64 or 44], all frames of which count.
            names: of the walks.
            embeddings: of the walks, float32 [2, parts, channels].
            metric: "euc" or "cos", see `mcl_jax.evaluation.distances`.

        Raises:
            DataError: if a walk is too long, or a gradient is not finite.
        """
        for name, walk in zip(names, walks, strict=True):
            check_length(name, len(walk))
        silhouettes = [cut(walk) for walk in walks]
        one, other = embeddings.astype(np.float64)
        if np.abs(one - other).max() <= _EQUAL * np.abs(one).max():  # rounding depends on a batch's rows
            other = one
        derivatives = [derivative_of(one, other, metric), derivative_of(other, one, metric)]
        probed = [self._probe(*given) for given in zip(silhouettes, derivatives, strict=True)]
        explained = [self._walk(*given) for given in zip(names, silhouettes, probed, strict=True)]
        takes_maxima = bool(probed[0].features)
        return Explanation(
            walks=(explained[0], explained[1]),
            model=self._model.name,
            distances=part_distances(one, other, metric=metric),
            strips=self._model.strips,
            reach=reach_of(self._probe, silhouettes[0], probed[0], derivatives[0]) if takes_maxima else 0,
        )

    def _walk(self, name: str, silhouettes: np.ndarray, found: Probed) -> ExplainedWalk:
        if not np.isfinite(found.gradient).all():
            raise DataError(f"{name}: the gradient of the distance is not finite; try another checkpoint")
        shares = None
        if strips := self._model.strips if found.features else ():
            shares = np.mean([frame_shares(features, strips) for features in found.features], axis=0)
        return ExplainedWalk(name, silhouettes, shares, found.group, np.abs(found.gradient))


def derivative_of(x: np.ndarray, y: np.ndarray, metric: str) -> np.ndarray:
    """Returns the derivative by x of the mean over parts of the squared distance, or of 1 − the cosine.

    Args:
        x: one embedding [parts, channels], float64.
        y: the other.
        metric: "euc" or "cos".
    """
    if metric == "euc":
        return 2 * (x - y) / len(x)
    lengths = [np.maximum(np.linalg.norm(side, axis=1, keepdims=True), NORM_EPS) for side in (x, y)]
    a, b = x / lengths[0], y / lengths[1]
    return ((a * b).sum(axis=1, keepdims=True) * a - b) / lengths[0] / len(x)
