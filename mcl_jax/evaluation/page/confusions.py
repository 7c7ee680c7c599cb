"""Chooses the probes for the page; the worst confusions come first."""

from dataclasses import dataclass

import numpy as np

from mcl_jax.evaluation import scoring
from mcl_jax.evaluation.embeddings import EmbeddingSet
from mcl_jax.evaluation.protocols import Protocol
from mcl_jax.evaluation.retrieval import NEAREST, spread
from mcl_jax.evaluation.roles import Roles
from mcl_jax.evaluation.scoring import DistanceFn

CANDIDATES = 4096  # probes that are ranked for the page
MAX_PROBES = 1000
MAX_WALKS = 2000
_AT_ONCE = 512


@dataclass(frozen=True)
class ProbeRow:
    """A probe and its nearest gallery sequences.

    Attributes:
        probe: index of its sequence.
        group: its group in the protocol.
        rank: rank of the first sequence of its subject, from 1.
        margin: distance to the nearest walk of another subject minus that to the nearest of its own; below 0
            if the nearest sequence is wrong. Infinite if there is no other subject.
        nearest: indices of the nearest gallery sequences, nearest first.
        distances: distances to these.
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
    """Ranks the gallery for each probe, and returns the probes with the worst confusions first.

    Probes without a visible gallery sequence of their subject are left out. Of more than `MAX_PROBES` probes,
    half are the worst and half are evenly spaced among the others. Probes that would bring the number of
    sequences above `MAX_WALKS` are left out.

    Args:
        protocol: the rules, also about hidden gallery sequences.
        embedding_set: the labels.
        roles: probes and gallery; of more than `CANDIDATES` probes, evenly spaced ones are ranked.
        distances: called with up to 512 probes at a time.

    Returns:
        Rows ordered by margin, smallest first.
    """
    everybody, groups = roles.rankings()
    rows: list[ProbeRow] = []
    chosen = spread(np.arange(len(groups)), CANDIDATES)
    for start in range(0, len(chosen), _AT_ONCE):
        part = chosen[start : start + _AT_ONCE]
        rows += _rank(protocol, embedding_set, roles, distances, everybody[part], groups[part])
    rows.sort(key=lambda row: (row.margin, row.probe))
    worst, rest = rows[: MAX_PROBES // 2], rows[MAX_PROBES // 2 :]
    return _within(worst + [rest[i] for i in spread(np.arange(len(rest)), MAX_PROBES // 2)])


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
    """Returns the rows, in order, that together have up to `MAX_WALKS` sequences."""
    walks: set[int] = set()
    kept = []
    for row in rows:
        more = walks | {row.probe, *row.nearest}
        if len(more) <= MAX_WALKS:
            walks = more
            kept.append(row)
    return kept
