"""Searches a gallery for the nearest walks; its embeddings stay in memory, part by part."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

from mcl_jax.errors import DataError
from mcl_jax.evaluation.distances import NORM_EPS, check_norms

_AT_ONCE = 4096  # number of walks copied at a time


class Search:
    """The embeddings of a gallery, laid out so that comparing one walk reads them once, in order.

    They take as much memory as the gallery's file. Distances equal those of
    `mcl_jax.evaluation.distances.pairwise_distances` up to rounding.
    """

    def __init__(
        self,
        rows: Float32[np.ndarray, "m p c"],
        *,
        metric: str,
        check: Callable[[int, np.ndarray], None] = lambda start, block: None,
    ):
        """Reads all embeddings.

        Args:
            rows: the embeddings.
            metric: which distance, "euc" or "cos".
            check: called with the embeddings that are about to be used, and the position of the first.

        Raises:
            DataError: if their squares overflow or vanish in float32, or if `check` raises it.
        """
        self._metric = metric
        walks, parts, channels = rows.shape
        self._parts = np.empty((parts, walks, channels), np.float32)
        self._squared = np.empty((parts, walks), np.float32)
        for start in range(0, walks, _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            block = np.array(rows[some])  # a copy, so that exactly the checked numbers are used
            check(start, block)
            check_norms(block)
            if metric == "cos":
                block = _normalised(block)
            self._parts[:, some] = block.swapaxes(0, 1)
            self._squared[:, some] = np.einsum("mpc,mpc->pm", block, block)

    def distances(self, embedding: Float32[np.ndarray, "p c"]) -> Float32[np.ndarray, " m"]:
        """Returns the distances of a walk to all walks of the gallery, [m].

        Raises:
            DataError: if a distance overflows float32.
        """
        check_norms(embedding[None])
        if self._metric == "cos":
            embedding = _normalised(embedding)
        inner = np.matmul(self._parts, embedding[:, :, None])[:, :, 0]
        if self._metric == "cos":
            return 1 - inner.mean(axis=0)
        with np.errstate(over="ignore"):
            squared = self._squared + np.square(embedding).sum(axis=1)[:, None] - 2 * inner
        if not np.isfinite(squared).all():
            raise DataError("embeddings: a distance overflows float32: scale the embeddings down or retrain")
        # Rounding can leave the difference of two equal embeddings below zero.
        return np.sqrt(np.maximum(squared, 0)).mean(axis=0)


def _normalised(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), NORM_EPS)
