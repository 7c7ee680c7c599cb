"""Packs sequences of any length into rows of a fixed shape.

An empty slot separates neighbours in a row, so that a temporal convolution sees zeros beside each of them as
if it were alone; more empty slots if the model's `Spacing` asks for them.

Written by hand, because Grain packs sequences of tokens without gaps, and not the fixed batches of training.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from statistics import NormalDist
from typing import TypedDict

import numpy as np

from mcl_jax.utils.spacing import SIDE_BY_SIDE, Spacing

GAP = 1
EMPTY = -1

_SEQUENCES_PER_ROW = 8
_SLOT_MULTIPLE = 8
_TEST_SLOTS_PER_SEQUENCE = 20
_SMALLEST_ROW = 32
# Max. empty slots in one of the last batches, as a share of its own slots, or of all slots before it.
_EMPTY_OF_BATCH, _EMPTY_OF_ALL = 1 / 8, 1 / 50
# One more row size is one more compilation; it must save at least this share of a training batch's slots.
_MIN_SAVING = 0.015


class TrainBatch(TypedDict):
    """A training batch, or one host's share of it.

    Keys:
        frames: uint8 [rows, slots, height, width], zero at empty slots.
        segment_ids: int32 [rows, slots], the sequence within its row, −1 at empty slots.
        labels: int32 [rows, segments], class of each sequence of a row, −1 if there is none.
    """

    frames: np.ndarray
    segment_ids: np.ndarray
    labels: np.ndarray


class SequenceBatch(TypedDict):
    """A batch of whole sequences.

    Keys:
        frames: uint8 [rows, slots, height, width], zero at empty slots.
        segment_ids: int32 [rows, slots], the sequence within its row, −1 at empty slots.
        positions: int [rows, segments], position of each sequence among all that are tested, −1 if none.
    """

    frames: np.ndarray
    segment_ids: np.ndarray
    positions: np.ndarray


@dataclasses.dataclass(frozen=True)
class RowShape:
    """Static shape of packed rows; `segments` is the maximum number of sequences in a row."""

    rows: int
    slots: int
    segments: int


@dataclasses.dataclass(frozen=True)
class Placement:
    """Row, segment and first slot of each sequence of a batch; arrays [n]."""

    row: np.ndarray
    segment: np.ndarray
    start: np.ndarray


def train_row_shape(
    sequences: int, min_frames: int, max_frames: int, spacing: Spacing = SIDE_BY_SIDE
) -> RowShape:
    """Returns the shape that training batches are packed into.

    Clips of one length get a row each. Clips of lengths uniform in [min_frames, max_frames] share rows, whose
    length is four standard deviations above the mean: all but about one batch in ten thousand fit.
    """
    if min_frames == max_frames:
        return RowShape(sequences, spacing.held(max_frames), 1)
    segments = math.gcd(sequences, _SEQUENCES_PER_ROW)
    needed = _needed_slots(sequences, segments, min_frames, max_frames, spacing)
    budget = needed.mean + 4 * needed.stdev
    longest = segments * spacing.taken(max_frames)
    slots = min(math.ceil(budget / _SLOT_MULTIPLE) * _SLOT_MULTIPLE, longest)
    return RowShape(sequences // segments, slots, segments)


def train_row_shapes(
    sequences: int, min_frames: int, max_frames: int, sizes: int, spacing: Spacing = SIDE_BY_SIDE
) -> tuple[RowShape, ...]:
    """Returns several shapes for training batches; each batch is packed into the smallest that holds it.

    They differ only in the number of slots, which increases; the last is that of `train_row_shape`. The
    others are chosen to minimise the average slots of a batch. There are up to `sizes` shapes, and each but
    the largest saves at least 1.5 % of the slots.
    """
    largest = train_row_shape(sequences, min_frames, max_frames, spacing)
    needed = _needed_slots(sequences, largest.segments, min_frames, max_frames, spacing)
    if not needed.stdev:  # one length, or lengths that take equally many slots at this spacing
        return (largest,)
    slots = [*range(_SLOT_MULTIPLE, largest.slots, _SLOT_MULTIPLE), largest.slots]
    slots = [size for size in slots if size > needed.mean - 4 * needed.stdev]
    held = [*map(needed.cdf, slots[:-1]), 1.0]  # share of the batches that fit
    # best[i]: mean slots of batches that fit slots[i] (times their share), and the best sizes for them.
    best: list[tuple[float, tuple[int, ...]]]
    best = [(share * size, (size,)) for size, share in zip(slots, held, strict=True)]
    for _ in range(min(sizes, len(slots)) - 1):
        with_one_more = best[:1]
        for i in range(1, len(slots)):
            several = [
                (best[j][0] + (held[i] - held[j]) * slots[i], (*best[j][1], slots[i])) for j in range(i)
            ]
            with_one_more.append(min(several))
        if with_one_more[-1][0] > (1 - _MIN_SAVING) * best[-1][0]:
            break
        best = with_one_more
    return tuple(dataclasses.replace(largest, slots=size) for size in best[-1][1])


def ordinary_test_rows(rows: int, slots: int, devices: int) -> RowShape:
    """Returns the shape of a standard test batch of `SequencePacker`: one row on each device."""
    size = -(-rows // devices) * slots
    return RowShape(devices, size, _segments(size))


def _needed_slots(
    sequences: int, segments: int, min_frames: int, max_frames: int, spacing: Spacing
) -> NormalDist:
    """Returns the approximate distribution of the slots that the fullest row of a batch needs.

    Clips are dealt evenly to rows, so each row has about the mean of all rows.
    """
    taken = spacing.taken(np.arange(min_frames, max_frames + 1))
    deviation = math.sqrt(sequences * taken.var()) * segments / sequences
    return NormalDist(segments * float(taken.mean()), deviation)


def place(lengths: np.ndarray, shape: RowShape, spacing: Spacing = SIDE_BY_SIDE) -> Placement | None:
    """Packs clips of the given lengths [rows·segments], `segments` to a row; returns None if they do not fit.

    Clips are dealt to the rows from the longest to the shortest, back and forth, which evens out the rows'
    sums. Clips of one length keep their order.
    """
    order = np.argsort(-lengths, kind="stable")
    deal = np.arange(shape.rows * shape.segments).reshape(shape.segments, shape.rows)
    deal[1::2] = deal[1::2, ::-1]
    members = order[deal]  # [segments, rows]
    taken, last = spacing.taken(lengths[members]), lengths[members[-1]]
    starts = np.cumsum(taken, axis=0) - taken
    if (starts[-1] + spacing.held(last) > shape.slots).any():
        return None
    row, segment, start = (np.empty(len(lengths), np.int64) for _ in range(3))
    row[members] = np.arange(shape.rows)
    segment[members] = np.arange(shape.segments)[:, None]
    start[members] = starts
    return Placement(row, segment, start)


class SequencePacker:
    """Packs whole sequences into batches of few static shapes, with few empty slots.

    A batch has one row on each device, with sequences of any length one after another. Enough sequences for
    two batches are read ahead, to choose those that fit. The last sequences go into shorter rows of 3/4, 1/2,
    3/8, … of the standard size, in as few batches as possible without wasting slots. A sequence longer than a
    standard row gets a row of 3/2, 2, 3, … times that size, and others fill it up.
    """

    def __init__(self, rows: int, slots: int, row_multiple: int = 1, spacing: Spacing = SIDE_BY_SIDE):
        """Takes the size of a standard batch, rows · slots, and the number of devices that share it."""
        shape = ordinary_test_rows(rows, slots, row_multiple)
        self._rows, self._slots = shape.rows, shape.slots
        self._spacing = spacing

    def sizes(self, longest: int) -> list[int]:
        """Returns the row sizes that can hold `longest` frames, in increasing order.

        The last is the standard size, or the smallest sufficient one above it.
        """
        sizes = [self._slots]
        while sizes[0] // 2 >= _SMALLEST_ROW:
            sizes = [sizes[0] // 2, sizes[0] * 3 // 4, *sizes]
        while sizes[-1] < longest:
            larger = [sizes[-1] * 3 // 2, sizes[-1] * 2]
            sizes = larger[:1] if larger[0] >= longest else larger[1:]
        return [size for size in sizes if size >= longest]

    def shapes(self, longest: int) -> list[RowShape]:
        """Returns every shape that batches of sequences of up to `longest` frames can have."""
        sizes = self.sizes(1)
        while sizes[-1] < self._spacing.taken(longest):
            sizes.append(self.sizes(sizes[-1] + 1)[-1])
        return [RowShape(self._rows, size, _segments(size)) for size in sizes]

    def pack(self, sequences: Iterable[np.ndarray]) -> Iterator[SequenceBatch]:
        """Yields batches that together hold every sequence [s, h, w] exactly once."""
        waiting: dict[int, np.ndarray] = {}  # by position
        slots_before = 0
        for position, frames in enumerate(sequences):
            waiting[position] = frames
            while sum(self._taken(waiting).values()) > 2 * self._rows * self._slots:
                size = self.sizes(max(self._taken(waiting).values()))[-1]
                yield self._batch(waiting, self._choose(waiting, size), size)
                slots_before += self._rows * size
        while waiting:
            size = self._last_size(waiting, slots_before)
            yield self._batch(waiting, self._choose(waiting, size), size)
            slots_before += self._rows * size

    def _choose(self, waiting: Mapping[int, np.ndarray], size: int) -> list[list[int]]:
        """Chooses sequences for each row of a batch that fill it best; returns their positions."""
        left = self._taken(waiting)
        rows = []
        for _ in range(self._rows):
            rows.append(_fullest(left, size))
            left = {position: n for position, n in left.items() if position not in rows[-1]}
        return rows

    def _last_size(self, waiting: Mapping[int, np.ndarray], slots_before: int) -> int:
        """Returns the row size for the next of the last batches.

        That is the standard size if few slots stay empty, because it is compiled already; else the smallest
        that holds all remaining sequences; or, if that would waste slots, the largest that is well filled.
        """
        lengths = self._taken(waiting)
        sizes = self.sizes(max(lengths.values()))

        def used(size: int) -> int:
            return sum(lengths[position] - GAP for row in self._choose(waiting, size) for position in row)

        everything = sum(lengths.values()) - GAP * len(lengths)
        if slots_before and self._rows * sizes[-1] - used(sizes[-1]) <= _EMPTY_OF_ALL * slots_before:
            return sizes[-1]
        holding_all = [size for size in sizes if used(size) == everything][:1]
        for size in holding_all + sizes[::-1]:
            if used(size) >= (1 - _EMPTY_OF_BATCH) * self._rows * size:
                return size
        return (holding_all or sizes[-1:])[0]

    def _taken(self, waiting: Mapping[int, np.ndarray]) -> dict[int, int]:
        """Returns the slots that each sequence takes, including the empty ones after it."""
        return {position: self._spacing.taken(len(frames)) for position, frames in waiting.items()}

    def _batch(self, waiting: dict[int, np.ndarray], rows: list[list[int]], size: int) -> SequenceBatch:
        """Returns the batch of the chosen sequences, and removes them from `waiting`."""
        frame_shape = next(iter(waiting.values())).shape[1:]
        batch: SequenceBatch = {
            "frames": np.zeros((len(rows), size, *frame_shape), np.uint8),
            "segment_ids": np.full((len(rows), size), EMPTY, np.int32),
            "positions": np.full((len(rows), _segments(size)), EMPTY, np.int64),
        }
        for row, positions in enumerate(rows):
            start = 0
            for segment, position in enumerate(positions):
                frames = waiting.pop(position)
                here = slice(start, start + len(frames))
                batch["frames"][row, here], batch["segment_ids"][row, here] = frames, segment
                batch["positions"][row, segment] = position
                start += self._spacing.taken(len(frames))
        return batch


def _segments(size: int) -> int:
    """Returns the maximum number of sequences in a row."""
    return max(1, size // _TEST_SLOTS_PER_SEQUENCE)


def _fullest(lengths: Mapping[int, int], size: int) -> list[int]:
    """Returns the position of the longest sequence, and of those that best fill the rest of the row."""
    by_length = sorted(lengths, key=lambda position: -lengths[position])
    if not by_length:
        return []
    first, rest = by_length[0], by_length[1:]
    room = size + GAP - lengths[first]
    # Bit s of reachable[i]: whether a choice of the first i sequences takes exactly s slots.
    within = (1 << room + 1) - 1
    reachable = [1]
    for position in rest:
        reachable.append((reachable[-1] | reachable[-1] << lengths[position]) & within)
    total = reachable[-1].bit_length() - 1
    chosen = [first]
    for position, before in zip(reversed(rest), reversed(reachable[:-1]), strict=True):
        if not before >> total & 1:
            chosen.append(position)
            total -= lengths[position]
    return chosen[: _segments(size)]
