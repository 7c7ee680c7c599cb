"""Packing sequences of any length into rows of one static shape.

Neighbours in a row are an empty slot apart, so that a temporal convolution pads each of them with zeros as if
it were alone, or more where the model's `Spacing` asks for it.

By hand, because Grain packs sequences of tokens, without gaps, and not the fixed batches of training.
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
# Empty slots that one of the last batches may have: this share of its own, or that of all slots before it.
_EMPTY_OF_BATCH, _EMPTY_OF_ALL = 1 / 8, 1 / 50
# Share of a training batch's slots that one more size of rows has to save, as it is one more compilation.
_LEAST_SAVING = 0.015


class TrainBatch(TypedDict):
    """A training batch, or one host's share of it.

    Keys:
        frames: uint8 [rows, slots, height, width], zero at empty slots.
        segment_ids: int32 [rows, slots], the sequence within its row, −1 at empty slots.
        labels: int32 [rows, segments], class of each sequence of a row, −1 where there is none.
    """

    frames: np.ndarray
    segment_ids: np.ndarray
    labels: np.ndarray


class SequenceBatch(TypedDict):
    """A batch of whole sequences.

    Keys:
        frames: uint8 [rows, slots, height, width], zero at empty slots.
        segment_ids: int32 [rows, slots], the sequence within its row, −1 at empty slots.
        positions: int [rows, segments], place of each sequence among all that are tested, −1 where none.
    """

    frames: np.ndarray
    segment_ids: np.ndarray
    positions: np.ndarray


@dataclasses.dataclass(frozen=True)
class RowShape:
    """Static shape of packed rows: `segments` is how many sequences a row holds at most."""

    rows: int
    slots: int
    segments: int


@dataclasses.dataclass(frozen=True)
class Placement:
    """The row, the segment of the row and the first slot of each sequence of a batch, each [n]."""

    row: np.ndarray
    segment: np.ndarray
    start: np.ndarray


def train_row_shape(
    sequences: int, min_frames: int, max_frames: int, spacing: Spacing = SIDE_BY_SIDE
) -> RowShape:
    """Returns the shape that training batches are packed into.

    Clips of one length get a row each. Clips of lengths uniform in [min_frames, max_frames] share rows of a
    budget four standard deviations above the mean, which all but one batch in some ten thousand fit.
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
    """Returns the shapes that training batches are packed into, each into the smallest that holds it.

    They differ in slots alone, rising; the last is that of `train_row_shape`. The others are those with the
    fewest slots a batch on average, as many as save 1.5 % of them each, but not more than `sizes` in all.
    """
    largest = train_row_shape(sequences, min_frames, max_frames, spacing)
    if min_frames == max_frames:
        return (largest,)
    needed = _needed_slots(sequences, largest.segments, min_frames, max_frames, spacing)
    slots = [*range(_SLOT_MULTIPLE, largest.slots, _SLOT_MULTIPLE), largest.slots]
    slots = [size for size in slots if size > needed.mean - 4 * needed.stdev]
    held = [*map(needed.cdf, slots[:-1]), 1.0]  # share of the batches that fit
    # best[i]: the slots that batches which fit slots[i] take on average, and the best sizes for them.
    best: list[tuple[float, tuple[int, ...]]]
    best = [(share * size, (size,)) for size, share in zip(slots, held, strict=True)]
    for _ in range(min(sizes, len(slots)) - 1):
        with_one_more = best[:1]
        for i in range(1, len(slots)):
            several = [
                (best[j][0] + (held[i] - held[j]) * slots[i], (*best[j][1], slots[i])) for j in range(i)
            ]
            with_one_more.append(min(several))
        if with_one_more[-1][0] > (1 - _LEAST_SAVING) * best[-1][0]:
            break
        best = with_one_more
    return tuple(dataclasses.replace(largest, slots=size) for size in best[-1][1])


def ordinary_test_rows(rows: int, slots: int, devices: int) -> RowShape:
    """Returns the shape of an ordinary test batch, as `SequencePacker` makes it: a row on each device."""
    size = -(-rows // devices) * slots
    return RowShape(devices, size, _segments(size))


def _needed_slots(
    sequences: int, segments: int, min_frames: int, max_frames: int, spacing: Spacing
) -> NormalDist:
    """Returns how the slots that the fullest row of a batch needs are distributed, nearly.

    Rows are dealt evenly, so each has the mean over all of them.
    """
    taken = spacing.taken(np.arange(min_frames, max_frames + 1))
    deviation = math.sqrt(sequences * taken.var()) * segments / sequences
    return NormalDist(segments * float(taken.mean()), deviation)


def place(lengths: np.ndarray, shape: RowShape, spacing: Spacing = SIDE_BY_SIDE) -> Placement | None:
    """Packs clips of the given lengths [rows·segments], `segments` to a row, or returns None if too long.

    The longest are dealt first, forth and back over the rows, which evens out the rows' sums. Fixed-length
    clips keep their order.
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

    A batch has one row on each device, with sequences of any length end to end. Two batches of them are read
    ahead, for some that fit. The last ones go into shorter rows of a ladder of sizes, 3/4, 1/2, 3/8, … of the
    ordinary one, in as few batches as do not waste slots. A sequence longer than an ordinary row gets one of
    3/2, 2, 3, … times that size, and others fill it up.
    """

    def __init__(self, rows: int, slots: int, row_multiple: int = 1, spacing: Spacing = SIDE_BY_SIDE):
        """Takes the size of an ordinary batch, rows · slots, and the number of devices that share it."""
        shape = ordinary_test_rows(rows, slots, row_multiple)
        self._rows, self._slots = shape.rows, shape.slots
        self._spacing = spacing

    def sizes(self, longest: int) -> list[int]:
        """Returns the slots that a row may have to hold `longest` frames, rising.

        The last is the ordinary size, or the only one above it that is needed.
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
        """Returns the positions of the sequences that fill each row of a batch best."""
        left = self._taken(waiting)
        rows = []
        for _ in range(self._rows):
            rows.append(_fullest(left, size))
            left = {position: n for position, n in left.items() if position not in rows[-1]}
        return rows

    def _last_size(self, waiting: Mapping[int, np.ndarray], slots_before: int) -> int:
        """Returns the size for the next of the last batches.

        That is the ordinary one if it can be afforded, being compiled already; or the smallest that holds all
        that is left; or, if that would be wasteful, the largest that is well filled.
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
        """Returns the slots that each sequence takes, with the empty ones behind it."""
        return {position: self._spacing.taken(len(frames)) for position, frames in waiting.items()}

    def _batch(self, waiting: dict[int, np.ndarray], rows: list[list[int]], size: int) -> SequenceBatch:
        """Returns the batch of the chosen sequences, which wait no longer."""
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
    """Returns how many sequences a row holds at most."""
    return max(1, size // _TEST_SLOTS_PER_SEQUENCE)


def _fullest(lengths: Mapping[int, int], size: int) -> list[int]:
    """Returns the positions of the longest sequence and of those that fill the row best beside it."""
    by_length = sorted(lengths, key=lambda position: -lengths[position])
    if not by_length:
        return []
    first, rest = by_length[0], by_length[1:]
    room = size + GAP - lengths[first]
    # Bit s of reachable[i] says whether some of the first i sequences take exactly s slots.
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
