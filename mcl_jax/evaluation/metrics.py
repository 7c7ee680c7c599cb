"""Retrieval metrics of ranked galleries, in NumPy.

All take `distances` [n, m] from n probes to m gallery sequences, and `match` [n, m], true if the subject is
the same. A gallery sequence hidden from a probe has distance +inf and match false. Ties are ranked in gallery
order. Each thread works on `ROWS` probes at a time, which limits its memory.

Written by hand, because scikit-learn ranks one query at a time, without hidden gallery sequences and mINP.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Bool, Float, Int

NO_MATCH = np.iinfo(np.int64).max  # never within rank k, for any k
ROWS = 64


def first_match_ranks(
    distances: Float[np.ndarray, "n m"], match: Bool[np.ndarray, "n m"]
) -> Int[np.ndarray, " n"]:
    """Returns the rank, from 1, of each probe's nearest match; `NO_MATCH` if it has none.

    It counts the sequences before the match instead of sorting, which took most of the time of scoring.
    """
    ranks = np.full(len(distances), NO_MATCH, np.int64)
    columns = np.arange(distances.shape[1])

    def of_chunk(rows: slice) -> None:
        d, ok = distances[rows], match[rows]
        best = np.argmin(np.where(ok, d, np.inf), axis=1)  # argmin returns the first of several
        nearest = np.take_along_axis(d, best[:, None], axis=1)
        before = (d < nearest) | ((d == nearest) & (columns < best[:, None]))
        ranks[rows] = np.where(ok.any(axis=1), before.sum(axis=1) + 1, NO_MATCH)

    _for_chunks(len(distances), of_chunk)
    return ranks


def cmc(ranks: Int[np.ndarray, " n"], length: int) -> Float[np.ndarray, " length"]:
    """Returns the cumulative match characteristic: % of probes with a match in the k nearest, k ≤ length."""
    return 100 * (ranks[:, None] <= np.arange(1, length + 1)).sum(axis=0) / len(ranks)


def average_precision(
    distances: Float[np.ndarray, "n m"], match: Bool[np.ndarray, "n m"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Returns average precision and inverse negative penalty of each probe, in [0, 1]; 0 without a match.

    AP is the mean, over the matches, of the share of matches up to this rank. INP is the number of matches
    divided by the rank of the last one (Ye et al., Deep Learning for Person Re-identification, 2021).

    Returns:
        (AP [n], INP [n]); their means over probes are mAP and mINP.
    """
    ap, inp = np.zeros(len(distances)), np.zeros(len(distances))

    def of_chunk(rows: slice) -> None:
        d, ok = distances[rows], match[rows]
        count = ok.sum(axis=1)
        sorted_ranks = _match_ranks(d, ok, int(count.max()))
        found = np.arange(1, sorted_ranks.shape[1] + 1)
        precision = np.where(found <= count[:, None], found / sorted_ranks, 0)
        ap[rows] = precision.sum(axis=1) / np.maximum(count, 1)
        inp[rows] = count / np.max(np.where(found <= count[:, None], sorted_ranks, 1), axis=1, initial=1)

    _for_chunks(len(distances), of_chunk)
    return ap, inp


def _match_ranks(
    d: Float[np.ndarray, "n m"], match: Bool[np.ndarray, "n m"], k: int
) -> Int[np.ndarray, "n k"]:
    """Returns the ranks, from 1, of each probe's matches (at most k), ascending; rows are padded with m + 1.

    It looks the matches up in the sorted distances, because `np.sort` is ten times as fast as `np.argsort`.
    """
    ranks = np.full((len(d), k), d.shape[1] + 1)
    for row, numbers in enumerate(np.sort(d, axis=1)):
        columns = np.flatnonzero(match[row])
        own = d[row, columns]
        before = np.searchsorted(numbers, own)
        if (np.searchsorted(numbers, own, "right") - before > 1).any():  # ties are ranked in gallery order
            before = np.flatnonzero(match[row][np.argsort(d[row], kind="stable")])
        ranks[row, : len(columns)] = np.sort(before) + 1
    return ranks


def nearest(distances: Float[np.ndarray, "n m"], k: int) -> Int[np.ndarray, "n k"]:
    """Returns the columns of the k nearest gallery sequences of each probe, nearest first."""
    chunks = [np.argsort(distances[rows], axis=1, kind="stable")[:, :k] for rows in _chunks(len(distances))]
    return np.concatenate(chunks)


def nan_mean(cells: np.ndarray, axis: int) -> np.ndarray:
    """Returns the mean of values that are not NaN; NaN if there are none (`np.nanmean` would also warn)."""
    number = (~np.isnan(cells)).sum(axis=axis)
    return np.asarray(np.nansum(cells, axis=axis) / np.where(number, number, np.nan))


def _for_chunks(n: int, of_chunk: Callable[[slice], None]) -> None:
    """Calls a function for all rows, `ROWS` at a time, in several threads; NumPy releases the interpreter."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(of_chunk, _chunks(n)))


def _chunks(n: int) -> Iterator[slice]:
    return (slice(i, i + ROWS) for i in range(0, n, ROWS))
