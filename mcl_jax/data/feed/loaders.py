"""Makes batches of sequences; every batch is a pure function of (seed, step).

A batch does not depend on the number of workers, hosts or devices, except for empty rows at its end, which
make the number of rows a multiple of the devices.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging

from mcl_jax.data.feed import augment, packing, sampling
from mcl_jax.data.feed.ring import Arrays, Empty
from mcl_jax.data.feed.worker_status import Note, ignore_note
from mcl_jax.data.sequences import CUT_SHAPE, SequenceRef, Source, Split
from mcl_jax.errors import DataError
from mcl_jax.utils.spacing import SIDE_BY_SIDE, Spacing

# Numbers of a step's random generators: one for the whole batch, then one for each sequence.
_BATCH_DRAW, _FIRST_SEQUENCE_DRAW = 0, 1


@dataclasses.dataclass(frozen=True)
class HostShare:
    """The part of every batch that this host loads.

    Attributes:
        host: index of this host.
        hosts: number of hosts.
        devices: number of devices of all hosts, which share the rows of a batch.
        chunks: number of chunks of a batch that the devices share one after the other, see
            `training.gradients`.
    """

    host: int = 0
    hosts: int = 1
    devices: int = 1
    chunks: int = 1

    def rows(self, rows: int) -> range:
        """Returns this host's rows of a batch, after rounding up so that devices share each chunk evenly."""
        shares = self.devices * self.chunks
        padded = -(-rows // shares) * shares
        return range(padded * self.host // self.hosts, padded * (self.host + 1) // self.hosts)


def train_row_shapes_of(
    batch: tuple[int, int], frames: sampling.FrameSampling, sizes: int, spacing: Spacing
) -> tuple[packing.RowShape, ...]:
    """Returns the row shapes, up to `sizes`, that P×K batches of such clips are packed into."""
    sequences = batch[0] * batch[1]
    if frames.variable_length:
        return packing.train_row_shapes(sequences, frames.min_frames, frames.max_frames, sizes, spacing)
    length = int(frames.draw_lengths(np.random.default_rng(0), 1)[0])
    return packing.train_row_shapes(sequences, length, length, sizes, spacing)


class TrainLoader:
    """Makes the training batch of a step; picklable, so that each worker process can have its own."""

    def __init__(
        self,
        split: Split,
        *,
        batch: tuple[int, int],
        frames: sampling.FrameSampling,
        augmentation: Sequence[Sequence[Any]],
        seed: int,
        share: HostShare,
        row_sizes: int = 1,
        spacing: Spacing = SIDE_BY_SIDE,
        skip_unreadable: bool = False,
    ):
        """Takes everything that determines the batches.

        `row_sizes` is the maximum number of row sizes for clips of random length; `spacing` says which gap
        between sequences the model needs.
        With `skip_unreadable`, the slots of a sequence that cannot be read stay empty.

        Raises:
            ConfigError: if the settings cannot work with this split.
        """
        self._sequences = split.sequences
        self._source = split.source
        self.one = split.one
        self._subjects = sampling.SubjectSampler(split, batch)
        self._frames = frames
        self._augment = augment.Augmentation(augmentation)
        self._seed = seed
        self._share = share
        self._skip_unreadable = skip_unreadable
        self._spacing = spacing
        self._frame_shape = split.frame_shape
        self.shapes = train_row_shapes_of(batch, frames, row_sizes, spacing)

    def __call__(self, step: int, empty: Empty = np.empty, note: Note = ignore_note) -> packing.TrainBatch:
        """Returns this host's rows of the batch of a step, in arrays made by `empty`.

        `note` is called with the number of each sequence before it is read.

        Raises:
            DataError: if a sequence cannot be read.
        """
        rng = self._generator(step, _BATCH_DRAW)
        chosen, labels = self._subjects.draw(rng)
        lengths, placement, shape = self._draw_placement(rng, len(chosen))

        rows = self._share.rows(shape.rows)
        batch: packing.TrainBatch = {
            "frames": empty((len(rows), shape.slots, *self._frame_shape), np.uint8),
            "segment_ids": empty((len(rows), shape.slots), np.int32),
            "labels": empty((len(rows), shape.segments), np.int32),
        }
        batch["segment_ids"].fill(packing.EMPTY)
        batch["labels"].fill(packing.EMPTY)
        skipped: DataError | None = None
        for i in np.flatnonzero((placement.row >= rows.start) & (placement.row < rows.stop)):
            row, segment = placement.row[i] - rows.start, placement.segment[i]
            slots = slice(placement.start[i], placement.start[i] + lengths[i])
            clip_rng = self._generator(step, _FIRST_SEQUENCE_DRAW + int(i))
            note(int(chosen[i]))
            try:
                clip = self._clip(self._sequences[chosen[i]], int(lengths[i]), clip_rng)
            except DataError as error:
                if not self._skip_unreadable:
                    raise
                logging.warning("skipped: %s", error)
                skipped = error
                continue
            batch["frames"][row, slots] = clip
            batch["segment_ids"][row, slots] = segment
            batch["labels"][row, segment] = labels[i]
        if skipped is not None and (batch["segment_ids"] == packing.EMPTY).all():
            raise DataError(f"data.on_error: no sequence of a whole batch can be read; the last: {skipped}")
        batch["frames"][batch["segment_ids"] == packing.EMPTY] = 0
        return batch

    def names(self, step: int) -> list[str]:
        """Returns the names of the sequences in a step's batch, of all hosts, in the order of the draw."""
        chosen, _ = self._subjects.draw(self._generator(step, _BATCH_DRAW))
        return [self._sequences[i].key for i in chosen]

    def places(self, step: int) -> dict[tuple[int, int], str]:
        """Maps each row and segment of this host's part of a step's batch to the name of its sequence."""
        rng = self._generator(step, _BATCH_DRAW)
        chosen, _ = self._subjects.draw(rng)
        _, placement, shape = self._draw_placement(rng, len(chosen))
        rows = self._share.rows(shape.rows)
        placed = zip(placement.row.tolist(), placement.segment.tolist(), chosen, strict=True)
        return {
            (row - rows.start, segment): self._sequences[i].key
            for row, segment, i in placed
            if rows.start <= row < rows.stop
        }

    def position_name(self, step: int) -> str:
        """Returns the name of a step for messages, in which steps count from 1."""
        return f"step {step + 1}"

    def sequence_name(self, sequence: int) -> str:
        """Returns the name of a sequence of the split."""
        return self._sequences[sequence].key

    @property
    def nbytes(self) -> int:
        """Bytes of this host's share of the largest batch."""
        shape = self.shapes[-1]
        slot, segment = math.prod(self._frame_shape) + 4, 4
        return len(self._share.rows(shape.rows)) * (shape.slots * slot + shape.segments * segment)

    def _generator(self, step: int, draw: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, int(step), draw])

    def _draw_placement(
        self, rng: np.random.Generator, clips: int
    ) -> tuple[np.ndarray, packing.Placement, packing.RowShape]:
        # Every host draws the lengths of the whole batch, so that all choose the same shape.
        # Lengths that do not fit the largest shape are drawn again; too rare to change the distribution.
        while True:
            lengths = self._frames.draw_lengths(rng, clips)
            for shape in self.shapes:
                placement = packing.place(lengths, shape, self._spacing)
                if placement is not None:
                    return lengths, placement, shape

    def _clip(self, ref: SequenceRef, length: int, rng: np.random.Generator) -> np.ndarray:
        sequence = self._source.read(ref)
        indices = sampling.sample_frames(rng, len(sequence), length, self._frames)
        return self._augment(rng, sequence[indices])


@dataclasses.dataclass(frozen=True)
class SequenceLoader:
    """Reads the first `max_frames` frames of the sequence at a position, and cuts them; picklable.

    With `skip_unreadable`, a sequence that cannot be read has no frames.
    """

    sequences: Sequence[SequenceRef]
    source: Source
    max_frames: int = sampling.MAX_TEST_FRAMES
    skip_unreadable: bool = False
    frame_shape: tuple[int, int] = CUT_SHAPE

    @property
    def nbytes(self) -> int:
        """Bytes of the longest result."""
        return self.max_frames * math.prod(self.frame_shape)

    def read(self, position: int) -> np.ndarray:
        """Returns the first frames, uint8 [s, *frame_shape], of a sequence.

        Raises:
            DataError: if it cannot be read.
        """
        sequence = self.source.read(self.sequences[position])
        return augment.cut(sequence[: self.max_frames])

    def __call__(self, position: int, empty: Empty = np.empty, note: Note = ignore_note) -> Arrays:
        """Returns {"frames": the same frames}, in an array made by `empty`.

        `note` is called with the position before it is read.
        """
        note(position)
        try:
            sequence = self.read(position)
        except DataError:
            if not self.skip_unreadable:
                raise
            sequence = np.empty((0, *self.frame_shape), np.uint8)
        frames = empty(sequence.shape, np.uint8)
        frames[...] = sequence
        return {"frames": frames}

    def position_name(self, position: int) -> str:
        """Returns a position for messages, such as "sequence 3 of 50"."""
        return f"sequence {position + 1} of {len(self.sequences)}"

    def sequence_name(self, sequence: int) -> str:
        """Returns the name of a sequence."""
        return self.sequences[sequence].key
