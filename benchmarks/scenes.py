"""Scores recognition across scenes: probes from one scene, gallery from another.

`EmbeddingSet.conditions` are the scenes, `views` the takes. The distance matrix [n, n] has the distances
between all sequences.
"""

import dataclasses
import itertools

import numpy as np
from jaxtyping import Float

from mcl_jax.errors import DataError
from mcl_jax.evaluation.embeddings import EmbeddingSet
from mcl_jax.evaluation.metrics import average_precision, first_match_ranks


@dataclasses.dataclass(frozen=True)
class SceneScores:
    """Figures of a test across scenes, in %.

    Attributes:
        rank1: (probe scene, gallery scene) → rank-1 accuracy.
        mean_ap: mean average precision over the probes of all those pairs.
        eer: equal error rate of verification, over all pairs across scenes.
    """

    rank1: dict[tuple[str, str], float]
    mean_ap: float
    eer: float

    def mean(self, *scenes: str) -> float:
        """Returns the mean rank-1 over the pairs of some scenes; over all pairs if none is named.

        Raises:
            DataError: if no such pair was scored.
        """
        cells = [cell for pair, cell in self.rank1.items() if not scenes or set(pair) <= set(scenes)]
        if not cells:
            raise DataError(f"scenes {', '.join(scenes)}: no such pair among {sorted(self.rank1)}")
        return float(np.mean(cells))


def score_across_scenes(labels: EmbeddingSet, distances: Float[np.ndarray, "n n"]) -> SceneScores:
    """Scores every ordered pair of scenes.

    A probe whose subject is not in the gallery is left out of rank-1 and average precision. In verification
    it is an impostor for everybody in the gallery.

    Args:
        labels: whose walks they are.
        distances: between all of them.

    Raises:
        DataError: if fewer than two scenes show the same person.
    """
    same = labels.subjects[:, None] == labels.subjects
    apart = labels.conditions[:, None] != labels.conditions
    rank1, precisions = {}, []
    for probe, gallery in itertools.permutations(sorted(set(labels.conditions.tolist())), 2):
        columns = np.flatnonzero(labels.conditions == gallery)
        rows = np.flatnonzero((labels.conditions == probe) & same[:, columns].any(axis=1))
        if rows.size:
            block = np.ix_(rows, columns)
            rank1[probe, gallery] = 100 * float(
                (first_match_ranks(distances[block], same[block]) == 1).mean()
            )
            precisions.append(average_precision(distances[block], same[block])[0])
    if not rank1:
        raise DataError("scenes: nobody appears in two scenes, so nothing can be scored")
    once = np.triu(apart)
    eer = equal_error_rate(distances[once & same], distances[once & ~same])
    return SceneScores(rank1, 100 * float(np.concatenate(precisions).mean()), eer)


def scores_without_each_subject(
    labels: EmbeddingSet, distances: Float[np.ndarray, "n n"]
) -> list[SceneScores]:
    """Scores the data without each subject in turn, for `jackknife_error`.

    Args:
        labels: whose walks they are.
        distances: between all of them.

    Raises:
        DataError: if without some subject nobody appears in two scenes.
    """
    scores = []
    for subject in sorted(set(labels.subjects.tolist())):
        rest = np.flatnonzero(labels.subjects != subject)
        scores.append(score_across_scenes(_only(labels, rest), distances[np.ix_(rest, rest)]))
    return scores


def jackknife_error(values: Float[np.ndarray, " n"]) -> float:
    """Returns the standard error of a statistic from its values without one subject at a time.

    Walks of one subject hit or miss together, so subjects, not walks, count as
    independent (Tukey 1958, "Bias and confidence in not quite large samples").

    Args:
        values: the statistic without the first subject, without the second, …

    Raises:
        DataError: if there are fewer than two.
    """
    if len(values) < 2:
        raise DataError("jackknife: needs two subjects or more")
    return float(np.sqrt((len(values) - 1) * np.var(values)))


def _only(labels: EmbeddingSet, rows: np.ndarray) -> EmbeddingSet:
    return EmbeddingSet(
        labels.embeddings[rows], labels.subjects[rows], labels.conditions[rows], labels.views[rows]
    )


def equal_error_rate(genuine: Float[np.ndarray, " n"], impostor: Float[np.ndarray, " m"]) -> float:
    """Returns the equal error rate, in %: where false accepts and false rejects are equally likely.

    If no threshold makes them equal, it is the mean of both where they are nearest.

    Args:
        genuine: distances of pairs of one person.
        impostor: distances of pairs of two.

    Raises:
        DataError: if one of them is empty.
    """
    if not (genuine.size and impostor.size):
        raise DataError("equal error rate: needs pairs of one person and pairs of two")
    thresholds = np.unique(np.concatenate([[-np.inf], genuine, impostor]))
    refused = 1 - np.searchsorted(np.sort(genuine), thresholds, side="right") / genuine.size
    accepted = np.searchsorted(np.sort(impostor), thresholds, side="right") / impostor.size
    nearest = np.argmin(np.abs(refused - accepted))
    return 50 * float(refused[nearest] + accepted[nearest])
