"""From records to batches with Grain: every batch is a pure function of (seed, step).

Nothing here depends on the number of workers, hosts or devices, but for empty rows added at the end of a
batch so that devices share it evenly.
"""

import contextlib
import dataclasses
import gc
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import grain
import numpy as np
from absl import flags, logging

from mcl_jax.data import augment, packing, sampling
from mcl_jax.data.records import Record, Split
from mcl_jax.data.sources import Source
from mcl_jax.errors import DataError, UserError

CUT_SHAPE = (64, 44)

_BATCHES_AHEAD = 2

# Which draw of a step a generator is for; sequences count from here.
_BATCH_DRAW, _FIRST_SEQUENCE_DRAW = 0, 1


@dataclasses.dataclass(frozen=True)
class HostShare:
    """Which part of every batch this host loads.

    Attributes:
        host: index of this host.
        hosts: how many there are.
        devices: how many devices share the rows of a batch, over all hosts.
    """

    host: int = 0
    hosts: int = 1
    devices: int = 1

    def rows(self, rows: int) -> range:
        """Returns this host's rows of a batch, after rounding up to a multiple of the devices."""
        padded = -(-rows // self.devices) * self.devices
        return range(padded * self.host // self.hosts, padded * (self.host + 1) // self.hosts)


class TrainLoader:
    """Makes the training batch of a step; picklable, so that worker processes can have one each."""

    def __init__(
        self,
        split: Split,
        source: Source,
        *,
        batch: tuple[int, int],
        frames: sampling.FrameSampling,
        augmentation: Sequence[tuple[str, float]],
        seed: int,
        share: HostShare,
        skip_unreadable: bool = False,
    ):
        """Takes what the batches depend on.

        With `skip_unreadable`, the place of a sequence that cannot be read stays empty.

        Raises:
            ConfigError: if the settings cannot work with this split.
        """
        self._records = split.records
        self._source = source
        self._subjects = sampling.SubjectSampler(split, batch)
        self._frames = frames
        self._augment = augment.Augmentation(augmentation)
        self._seed = seed
        self._share = share
        self._skip_unreadable = skip_unreadable
        sequences = batch[0] * batch[1]
        if frames.variable_length:
            self.shape = packing.train_row_shape(sequences, frames.min_frames, frames.max_frames)
        else:
            length = int(frames.draw_lengths(np.random.default_rng(0), 1)[0])
            self.shape = packing.train_row_shape(sequences, length, length)

    def __call__(self, step: int) -> packing.TrainBatch:
        """Returns this host's rows of the batch of a step.

        Raises:
            DataError: if a sequence cannot be read.
        """
        rng = self._generator(step, _BATCH_DRAW)
        chosen, labels = self._subjects.draw(rng)
        lengths, placement = self._draw_placement(rng, len(chosen))

        rows = self._share.rows(self.shape.rows)
        batch: packing.TrainBatch = {
            "frames": np.zeros((len(rows), self.shape.slots, *CUT_SHAPE), np.uint8),
            "segment_ids": np.full((len(rows), self.shape.slots), packing.EMPTY, np.int32),
            "labels": np.full((len(rows), self.shape.segments), packing.EMPTY, np.int32),
        }
        for i in np.flatnonzero((placement.row >= rows.start) & (placement.row < rows.stop)):
            row, segment = placement.row[i] - rows.start, placement.segment[i]
            slots = slice(placement.start[i], placement.start[i] + lengths[i])
            clip_rng = self._generator(step, _FIRST_SEQUENCE_DRAW + int(i))
            try:
                clip = self._clip(self._records[chosen[i]], int(lengths[i]), clip_rng)
            except DataError as error:
                if not self._skip_unreadable:
                    raise
                logging.warning("skipped: %s", error)
                continue
            batch["frames"][row, slots] = clip
            batch["segment_ids"][row, slots] = segment
            batch["labels"][row, segment] = labels[i]
        return batch

    def _generator(self, step: int, draw: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, int(step), draw])

    def _draw_placement(self, rng: np.random.Generator, clips: int) -> tuple[np.ndarray, packing.Placement]:
        # Draws that do not fit the budget are too rare to change the distribution; they are drawn again.
        while True:
            lengths = self._frames.draw_lengths(rng, clips)
            placement = packing.place(lengths, self.shape)
            if placement is not None:
                return lengths, placement

    def _clip(self, record: Record, length: int, rng: np.random.Generator) -> np.ndarray:
        sequence = self._source.read(record)
        indices = sampling.sample_frames(rng, len(sequence), length, self._frames)
        return self._augment(rng, sequence[indices])


@dataclasses.dataclass(frozen=True)
class SequenceLoader:
    """Reads the whole sequence at a position, cut; picklable."""

    records: Sequence[Record]
    source: Source

    def __call__(self, position: int) -> np.ndarray:
        """Returns the first frames, uint8 [s, 64, 44], of a sequence.

        Raises:
            DataError: if it cannot be read.
        """
        sequence = self.source.read(self.records[position])
        return np.ascontiguousarray(augment.cut(sequence[: sampling.MAX_TEST_FRAMES]))


@contextlib.contextmanager
def prefetched(loader: Any, positions: range, workers: int) -> Iterator[Iterator[Any]]:
    """Runs loader(position) ahead of its use, in `workers` processes or, with 0, in a thread.

    Yields:
        An iterator over the results, in order.

    Raises:
        UserError: what the loader raised, in a worker or not.
    """
    dataset = grain.MapDataset.source(positions).map(_Guarded(loader))
    # A worker is one thread: a second would only contend for the interpreter.
    threads = 0 if workers else 1
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads * _BATCHES_AHEAD)
    iter_dataset = dataset.to_iter_dataset(options)
    if workers > 0:
        if not flags.FLAGS.is_parsed():  # Grain's workers are handed the flags, a library user has none
            flags.FLAGS.mark_as_parsed()
        iter_dataset = iter_dataset.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=_BATCHES_AHEAD)
        )
    iterator = iter(iter_dataset)
    values = _unwrap(iterator)
    try:
        yield values
    finally:
        values.close()
        if workers > 0:
            iterator.close()
            # Grain's objects refer to each other, and one still holds shared memory, which must be given back
            # before this process ends.
            del iterator, values
            gc.collect()


@dataclasses.dataclass(frozen=True)
class _Guarded:
    """Turns a user's error into a value: Grain would wrap it in a worker's traceback."""

    loader: Any

    def __call__(self, position: int) -> Any:
        try:
            return self.loader(position)
        except UserError as error:
            return {"error": str(error)}


def _unwrap(iterator: Iterator[Any]) -> Generator[Any, None, None]:
    for value in iterator:
        if isinstance(value, dict) and "error" in value:
            raise DataError(value["error"])
        # Copied out of the workers' shared memory, which JAX would hold on to on a CPU.
        copied = {k: np.array(v) for k, v in value.items()} if isinstance(value, dict) else np.array(value)
        del value
        yield copied
