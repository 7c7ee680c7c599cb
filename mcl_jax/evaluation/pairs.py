"""Histogram of the distances of pairs; memory does not grow with the number of pairs.

Distances are rounded up to a grid: float32 numbers with 16 significant bits, at most 0.003 % apart. So the
number of pairs with "distance ≤ t" is exact for every t of the grid, and does not depend on the order of
pairs or the size of blocks. A coarser grid, of 11 bits, counts the pairs of each subject, for bootstraps.

Written by hand, because scikit-learn's curves need all distances in memory: 19 GB for the pairs of OU-MVLP.
"""

from collections.abc import Iterable

import numpy as np

TILE = 512  # rows processed at a time, which limits the memory
# Positive float32 numbers are in the same order as their bits read as integers; each grid drops low bits.
_FINE, _COARSE = 8, 13
_INFINITY = 0x7F800000


class PairCounts:
    """Number of pairs at each distance, in total and for each subject.

    Attributes:
        total: number of pairs.
    """

    def __init__(self, subjects: int):
        self.total = 0
        self._at = np.zeros((_INFINITY >> _FINE) + 1, np.int64)  # untouched pages take no memory
        self._first, self._last = len(self._at), -1  # range of keys used, to avoid reading all pages
        self._columns = np.full((_INFINITY >> _COARSE) + 1, -1, np.int32)  # coarse key → column; −1: none
        self._used = 0
        self._by_subject = np.zeros((subjects, 256), np.int32)

    def add(self, codes: np.ndarray, distances: np.ndarray, counted: np.ndarray) -> None:
        """Counts pairs, each for the subject of its row.

        Args:
            codes: int [n], the subject of each row.
            distances: float32 [n, m], not NaN; negative ones, caused by rounding, count as zero.
            counted: bool [n, m]: whether a pair counts.
        """
        keys = _keys_above(distances[counted], _FINE)
        if keys.size:
            self.total += len(keys)
            self._first = min(self._first, int(keys.min()))
            self._last = max(self._last, int(keys.max()))
            np.add.at(self._at, keys, 1)
            self._add_by_subject(codes, counted.sum(axis=1), _halved(keys, _COARSE - _FINE))

    def _add_by_subject(self, codes: np.ndarray, per_row: np.ndarray, keys: np.ndarray) -> None:
        columns = self._columns[keys]
        if columns.min() < 0:
            self._make_columns(np.unique(keys[columns < 0]))
            columns = self._columns[keys]
        width = self._by_subject.shape[1]
        subjects, local = np.unique(codes, return_inverse=True)
        cells = np.repeat(local * width, per_row)
        cells += columns
        counts = np.bincount(cells, minlength=len(subjects) * width).reshape(-1, width)
        self._by_subject[subjects] += counts.astype(np.int32)

    def _make_columns(self, keys: np.ndarray) -> None:
        self._columns[keys] = np.arange(self._used, self._used + len(keys))
        self._used += len(keys)
        if self._used > self._by_subject.shape[1]:
            wider = np.zeros((len(self._by_subject), 2 * self._used), np.int32)
            wider[:, : self._by_subject.shape[1]] = self._by_subject
            self._by_subject = wider

    def keys(self) -> np.ndarray:
        """Returns the keys of the fine grid that have pairs, ascending."""
        return self._first + np.flatnonzero(self._at[self._first : self._last + 1])

    def up_to(self, keys: np.ndarray) -> np.ndarray:
        """Returns the number of pairs at or below each key of the fine grid."""
        here = self.keys()
        return _cumulative(self._at[here])[np.searchsorted(here, keys, side="right")]

    def coarse_keys(self) -> np.ndarray:
        """Returns the keys of the coarse grid that have pairs, ascending."""
        return np.flatnonzero(self._columns >= 0)

    def weighted_up_to(self, weights: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Returns the number of pairs at or below each key of the coarse grid, weighted by subject.

        Args:
            weights: float64 [b, subjects], whole numbers, so that sums are exact in any order.
            keys: [k].

        Returns:
            float64 [b, k].
        """
        here = self.coarse_keys()
        columns = self._columns[here]
        at = np.empty((len(weights), len(here)))
        for start in range(0, len(here), TILE):  # in pieces, because float64 takes twice the memory
            part = slice(start, start + TILE)
            at[:, part] = weights @ self._by_subject[:, columns[part]].astype(np.float64)
        return _cumulative(at)[:, np.searchsorted(here, keys, side="right")]


class Pairs:
    """All pairs that a protocol compares: genuine pairs (same subject) by group, and impostor pairs.

    Attributes:
        codes: int [sequences], the subject of each sequence as an index into the sorted subjects.
        genuine: group → pairs of the same subject.
        impostor: pairs of different subjects, of all groups. Each is counted twice, once for each subject.
    """

    def __init__(self, subjects: np.ndarray, groups: Iterable[str]):
        names, self.codes = np.unique(subjects, return_inverse=True)
        self.genuine = {group: PairCounts(len(names)) for group in groups}
        self.impostor = PairCounts(len(names))

    def add(self, group: str, probes: np.ndarray, gallery: np.ndarray, distances: np.ndarray) -> None:
        """Counts the pairs of a block.

        Args:
            group: group of the probes.
            probes: indices [n].
            gallery: indices [m].
            distances: float32 [n, m]; +inf for pairs that the protocol hides.
        """
        rows, columns = self.codes[probes], self.codes[gallery]
        for start in range(0, len(rows), TILE):
            tile = slice(start, start + TILE)
            same, shown = rows[tile, None] == columns, distances[tile] < np.inf
            self.genuine[group].add(rows[tile], distances[tile], same & shown)
            self.impostor.add(rows[tile], distances[tile], ~same & shown)
        for start in range(0, len(columns), TILE):
            tile = slice(start, start + TILE)
            block = np.ascontiguousarray(distances[:, tile].T)
            self.impostor.add(columns[tile], block, (columns[tile, None] != rows) & (block < np.inf))


def distance_of(keys: np.ndarray) -> np.ndarray:
    """Returns the distances, float32, of keys of the fine grid."""
    return (keys << _FINE).astype(np.uint32).view(np.float32)


def coarse_keys_of(distances: np.ndarray) -> np.ndarray:
    """Returns the keys of the coarse grid for distances, rounded up."""
    return _keys_above(distances, _COARSE)


def _keys_above(distances: np.ndarray, dropped: int) -> np.ndarray:
    # Adding 0 turns −0 into 0, which has different bits.
    positive = np.maximum(distances.astype(np.float32, copy=False), np.float32(0)) + np.float32(0)
    return _halved(positive.view(np.uint32).astype(np.int64), dropped)


def _halved(keys: np.ndarray, times: int) -> np.ndarray:
    """Returns the keys divided by 2 ** times, rounded up."""
    return (keys + ((1 << times) - 1)) >> times


def _cumulative(counts: np.ndarray) -> np.ndarray:
    """Returns the sums of the first 0, 1, 2, … counts along the last axis."""
    nothing = np.zeros((*counts.shape[:-1], 1), counts.dtype)
    return np.concatenate([nothing, np.cumsum(counts, axis=-1)], axis=-1)
