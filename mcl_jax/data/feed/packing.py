"""Packing sequences of any length into rows of one static shape.

Neighbours in a row are one empty slot apart, so that a temporal convolution pads each of them with zeros as
if it were alone.

By hand, because Grain packs sequences of tokens, without gaps, and not the fixed batches of training.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TypedDict

import numpy as np

GAP = 1
EMPTY = -1

_SEQUENCES_PER_ROW = 8
_SLOT_MULTIPLE = 8
_TEST_SLOTS_PER_SEQUENCE = 16


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
    """Where the sequences of a training batch lie: row, segment of the row and first slot, each [n]."""

    row: np.ndarray
    segment: np.ndarray
    start: np.ndarray


def train_row_shape(sequences: int, min_frames: int, max_frames: int) -> RowShape:
    """Returns the shape that training batches are packed into.

    Clips of one length get a row each. Clips of lengths uniform in [min_frames, max_frames] share rows of a
    budget four standard deviations above the mean, which all but one batch in some ten thousand fit.
    """
    if min_frames == max_frames:
        return RowShape(sequences, max_frames, 1)
    segments = math.gcd(sequences, _SEQUENCES_PER_ROW)
    rows = sequences // segments
    mean = (min_frames + max_frames) / 2
    variance = ((max_frames - min_frames + 1) ** 2 - 1) / 12
    budget = segments * mean + 4 * math.sqrt(sequences * variance) / rows + GAP * segments
    longest = segments * (max_frames + GAP)
    slots = min(math.ceil(budget / _SLOT_MULTIPLE) * _SLOT_MULTIPLE, longest)
    return RowShape(rows, slots, segments)


def place(lengths: np.ndarray, shape: RowShape) -> Placement | None:
    """Packs clips of the given lengths [rows·segments], `segments` to a row, or returns None if too long.

    The longest are dealt first, forth and back over the rows, which evens out the rows' sums. Fixed-length
    clips keep their order.
    """
    order = np.argsort(-lengths, kind="stable")
    deal = np.arange(shape.rows * shape.segments).reshape(shape.segments, shape.rows)
    deal[1::2] = deal[1::2, ::-1]
    members = order[deal]  # [segments, rows]
    ends = np.cumsum(lengths[members] + GAP, axis=0)
    if (ends[-1] - GAP > shape.slots).any():
        return None
    row, segment, start = (np.empty(len(lengths), np.int64) for _ in range(3))
    row[members] = np.arange(shape.rows)
    segment[members] = np.arange(shape.segments)[:, None]
    start[members] = ends - lengths[members] - GAP
    return Placement(row, segment, start)


class SequencePacker:
    """Packs whole sequences into batches of few static shapes.

    A sequence goes into the first row with room for it. One that is longer than a row gets a row of its own,
    of twice, four times, … the slots, in batches of half, a quarter, … the rows.
    """

    def __init__(self, rows: int, slots: int, row_multiple: int = 1):
        """Takes the shape of ordinary batches; numbers of rows are rounded up to a multiple."""
        self._rows, self._slots, self._multiple = rows, slots, row_multiple

    def shape_for(self, frames: int) -> RowShape:
        """Returns the row shape that holds a sequence of that many frames."""
        doublings = max(0, math.ceil(math.log2(frames / self._slots)))
        rows = -(-max(self._rows >> doublings, 1) // self._multiple) * self._multiple
        segments = 1 if doublings else max(1, self._slots // _TEST_SLOTS_PER_SEQUENCE)
        return RowShape(rows, self._slots << doublings, segments)

    def pack(self, sequences: Iterable[np.ndarray]) -> Iterator[SequenceBatch]:
        """Yields batches that together hold every sequence [s, h, w] exactly once."""
        open_batches: dict[RowShape, _OpenBatch] = {}
        for position, frames in enumerate(sequences):
            shape = self.shape_for(len(frames))
            batch = open_batches.get(shape)
            if batch is None or not batch.add(position, frames):
                if batch is not None:
                    yield batch.close()
                batch = open_batches[shape] = _OpenBatch(shape, frames.shape[1:])
                batch.add(position, frames)
        for batch in open_batches.values():
            yield batch.close()


class _OpenBatch:
    """A test batch being filled."""

    def __init__(self, shape: RowShape, frame_shape: Sequence[int]):
        self._batch: SequenceBatch = {
            "frames": np.zeros((shape.rows, shape.slots, *frame_shape), np.uint8),
            "segment_ids": np.full((shape.rows, shape.slots), EMPTY, np.int32),
            "positions": np.full((shape.rows, shape.segments), EMPTY, np.int64),
        }
        self._free_slot = np.zeros(shape.rows, np.int64)
        self._free_segment = np.zeros(shape.rows, np.int64)
        self._shape = shape

    def add(self, position: int, frames: np.ndarray) -> bool:
        """Puts a sequence into the first row that has room; returns whether there is one."""
        room = self._free_slot + len(frames) <= self._shape.slots
        (rows,) = np.nonzero(room & (self._free_segment < self._shape.segments))
        if len(rows) == 0:
            return False
        row = rows[0]
        start, segment = self._free_slot[row], self._free_segment[row]
        self._batch["frames"][row, start : start + len(frames)] = frames
        self._batch["segment_ids"][row, start : start + len(frames)] = segment
        self._batch["positions"][row, segment] = position
        self._free_slot[row] += len(frames) + GAP
        self._free_segment[row] += 1
        return True

    def close(self) -> SequenceBatch:
        """Returns the batch."""
        return self._batch
