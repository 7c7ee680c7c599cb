"""k-reciprocal re-ranking of distances.

Written by hand, because the figures must equal those of the reference, including half-precision weights, and
no maintained library without PyTorch has it.

References:
    Zhong, Zheng, Cao, Li: Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mcl_jax.errors import ConfigError

ROWS = 512
HALF = np.float16  # weights and similarities are rounded to half precision, as in the published figures


@dataclass(frozen=True)
class Rerank:
    """Parameters of the re-ranking; the defaults are the paper's.

    Attributes:
        k1: number of nearest neighbours; two sequences must be in each other's.
        k2: number of nearest sequences over which a sequence's weights are averaged (1 = not averaged).
        lam: weight of the original distance in the result, in [0, 1]; the rest is the Jaccard distance.

    Raises:
        ConfigError: if a value is out of range.
    """

    k1: int = 20
    k2: int = 6
    lam: float = 0.3

    def __post_init__(self) -> None:
        if self.k1 < 1 or self.k2 < 1 or not 0 <= self.lam <= 1:
            raise ConfigError(
                f"rerank: k1 {self.k1}, k2 {self.k2}, lambda {self.lam}: "
                f"k1 and k2 must be at least 1, and lambda between 0 and 1"
            )

    @classmethod
    def parse(cls, text: str) -> "Rerank":
        """Reads "k1,k2,lambda".

        Raises:
            ConfigError: if the text is not two integers and a number.
        """
        try:
            k1, k2, lam = text.split(",")
            return cls(int(k1), int(k2), float(lam))
        except ValueError:
            raise ConfigError(f"rerank: {text!r} is not k1,k2,lambda: write for example 20,6,0.3") from None


# Sparse weights of one sequence: ascending columns (other sequences), and their non-zero values.
_Sparse = tuple[np.ndarray, np.ndarray]


def rerank_distances(
    distances: Float[np.ndarray, "a a"], num_probe: int, rerank: Rerank
) -> Float[np.ndarray, "n m"]:
    """Returns re-ranked distances of the first `num_probe` sequences to the others.

    Weights are sparse, so it needs only the memory of `distances` (which is overwritten) and the result.

    Args:
        distances: float32 [a, a] among all sequences, probes first; divided in place by each row's maximum.
        num_probe: n; the other m = a − n are the gallery.
        rerank: k1, k2 and λ.

    Returns:
        float32 [n, m].
    """
    largest = distances.max(axis=1, keepdims=True)
    distances /= np.where(largest > 0, largest, 1)
    order = _nearest(distances, max(rerank.k1 + 1, rerank.k2))
    weights = _reciprocal_weights(distances, order, rerank.k1)
    if rerank.k2 > 1:
        weights = _averaged(weights, order[:, : rerank.k2])
    similarity = _shared_weight(weights, num_probe)
    jaccard = (1 - similarity / (2 - similarity)).astype(HALF)
    # λ is a Python scalar, so the first product stays in half precision, as in the reference.
    return jaccard[:, num_probe:] * (1 - rerank.lam) + distances[:num_probe, num_probe:] * rerank.lam


def _nearest(distances: np.ndarray, k: int) -> Int[np.ndarray, "a k"]:
    rows = range(0, len(distances), ROWS)
    return np.concatenate([np.argsort(distances[i : i + ROWS], axis=1, kind="stable")[:, :k] for i in rows])


def _reciprocal_weights(distances: np.ndarray, order: np.ndarray, k1: int) -> list[_Sparse]:
    """Returns weights exp(−d) of each sequence's extended k1-reciprocal neighbours; they sum to 1."""
    wide = _reciprocal(order[:, : k1 + 1])
    half = _reciprocal(order[:, : round(k1 / 2) + 1])
    weights = []
    for i, neighbours in enumerate(wide):
        members = set(neighbours.tolist())
        # A neighbour's own neighbours are added if more than two thirds of them are already members.
        new = [
            half[j] for j in neighbours if 3 * len(members.intersection(half[j].tolist())) > 2 * len(half[j])
        ]
        columns = np.unique(np.concatenate([neighbours, *new]))
        values = np.exp(-distances[i, columns])
        weights.append((columns, (values / values.sum()).astype(HALF)))
    return weights


def _reciprocal(order: Int[np.ndarray, "a k"]) -> list[np.ndarray]:
    """Returns for each sequence those of its k nearest that also have it among their k nearest."""
    me = np.arange(len(order))[:, None, None]
    mutual = np.zeros(order.shape, bool)
    for i in range(0, len(order), ROWS):
        mutual[i : i + ROWS] = (order[order[i : i + ROWS]] == me[i : i + ROWS]).any(axis=2)
    return [neighbours[keep] for neighbours, keep in zip(order, mutual, strict=True)]


def _averaged(weights: list[_Sparse], order: Int[np.ndarray, "a k2"]) -> list[_Sparse]:
    total = np.zeros(len(weights), np.float32)
    averaged = []
    for neighbours in order:
        for j in neighbours:
            total[weights[j][0]] += weights[j][1]
        columns = np.flatnonzero(total)
        averaged.append((columns, (total[columns] / order.shape[1]).astype(HALF)))
        total[columns] = 0
    return averaged


def _shared_weight(weights: list[_Sparse], num_probe: int) -> Float[np.ndarray, "n a"]:
    """Returns Σ over columns of min(weight of probe i, weight of sequence j); skips weights of zero."""
    rows = np.repeat(np.arange(len(weights)), [len(columns) for columns, _ in weights])
    columns = np.concatenate([columns for columns, _ in weights])
    values = np.concatenate([values for _, values in weights])
    by_column = np.argsort(columns, kind="stable")
    rows, values = rows[by_column], values[by_column]
    start = np.searchsorted(columns[by_column], np.arange(len(weights) + 1))

    shared = np.zeros((num_probe, len(weights)), HALF)
    for i in range(num_probe):
        # In ascending column order, because half-precision sums depend on it.
        for column, value in zip(*weights[i], strict=True):
            others = slice(start[column], start[column + 1])
            shared[i, rows[others]] += np.minimum(value, values[others])
    return shared
