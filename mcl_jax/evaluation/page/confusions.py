"""Probes for the page, the worst confusions first."""

from dataclasses import dataclass

import numpy as np

from mcl_jax.evaluation import scoring
from mcl_jax.evaluation.embeddings import EmbeddingSet
from mcl_jax.evaluation.protocols import Protocol
from mcl_jax.evaluation.retrieval import NEAREST, spread
from mcl_jax.evaluation.roles import Roles
from mcl_jax.evaluation.scoring import DistanceFn

CANDIDATES = 4096  # probes that are ranked for the page
MOST_PROBES = 1000
MOST_WALKS = 2000
_AT_ONCE = 512


@dataclass(frozen=True)
class ProbeRow:
    """A probe and its nearest gallery sequences.

    Attributes:
        probe: index of its sequence.
        group: its group in the protocol.
        rank: rank of the first sequence of its subject, from 1.
        margin: distance to the nearest other subject minus that to its nearest own walk; below 0 the
            nearest sequence is wrong. Infinite where nobody else is there.
        nearest: indices of the nearest gallery sequences, nearest first.
        distances: to these.
    """

    probe: int
    group: str
    rank: int
    margin: float
    nearest: tuple[int, ...]
    distances: tuple[float, ...]


@dataclass(frozen=True)
class ExplainedConfusion:
    """A probe and the walk of somebody else that was nearest.

    Attributes:
        probe: its name.
        nearest: name of the other.
        page: the file that explains their distance; "" if there is none.
        reason: why there is none.
    """

    probe: str
    nearest: str
    page: str
    reason: str


def worst_first(
    protocol: Protocol, embedding_set: EmbeddingSet, roles: Roles, distances: DistanceFn
) -> list[ProbeRow]:
    """Ranks the whole gallery that each probe may see; probes that nothing can be found for are left out.

    Of more than `MOST_PROBES` the worst are kept, half as many, and an even choice of the others; where they
    and their nearest are more than `MOST_WALKS` sequences, those that fit.

    Args:
        protocol: says what a probe must not see.
        embedding_set: the labels.
        roles: probes and gallery; of more than `CANDIDATES` probes an even choice is ranked.
        distances: called with at most 512 probes at a time.

    Returns:
        Ordered by margin, the worst confusion first.
    """
    everybody, groups = roles.rankings()
    rows: list[ProbeRow] = []
    chosen = spread(np.arange(len(groups)), CANDIDATES)
    for start in range(0, len(chosen), _AT_ONCE):
        part = chosen[start : start + _AT_ONCE]
        rows += _rank(protocol, embedding_set, roles, distances, everybody[part], groups[part])
    rows.sort(key=lambda row: (row.margin, row.probe))
    worst, rest = rows[: MOST_PROBES // 2], rows[MOST_PROBES // 2 :]
    return _within(worst + [rest[i] for i in spread(np.arange(len(rest)), MOST_PROBES // 2)])


def _rank(
    protocol: Protocol,
    embedding_set: EmbeddingSet,
    roles: Roles,
    distances: DistanceFn,
    probes: np.ndarray,
    groups: np.ndarray,
) -> list[ProbeRow]:
    gallery = roles.gallery
    unseen = scoring.hidden(protocol, embedding_set, probes, gallery) | roles.elsewhere(groups)
    same = embedding_set.subjects[probes][:, None] == embedding_set.subjects[gallery]
    block = np.where(unseen, np.inf, distances(probes, gallery))
    own = np.where(same, block, np.inf).min(axis=1)
    others = np.where(same, np.inf, block).min(axis=1)
    order = np.argsort(block, axis=1, kind="stable")
    rows = []
    for i in np.flatnonzero(np.isfinite(own)).tolist():
        first = int(np.argmax((same & ~unseen)[i, order[i]]))
        near = [j for j in order[i, :NEAREST].tolist() if np.isfinite(block[i, j])]
        rows.append(
            ProbeRow(
                probe=int(probes[i]),
                group=str(groups[i]),
                rank=first + 1,
                margin=float(others[i] - own[i]),
                nearest=tuple(int(gallery[j]) for j in near),
                distances=tuple(float(block[i, j]) for j in near),
            )
        )
    return rows


def _within(rows: list[ProbeRow]) -> list[ProbeRow]:
    """The rows, in their order, whose sequences are `MOST_WALKS` together."""
    walks: set[int] = set()
    kept = []
    for row in rows:
        more = walks | {row.probe, *row.nearest}
        if len(more) <= MOST_WALKS:
            walks = more
            kept.append(row)
    return kept
