"""Embeds whole sequences with a trained model: packed into rows, on all devices of this host."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from mcl_jax.data.feed.loaders import SequenceLoader
from mcl_jax.data.feed.packing import EMPTY, SequenceBatch, SequencePacker
from mcl_jax.data.feed.prefetch import prefetched
from mcl_jax.data.feed.ring import Arrays
from mcl_jax.data.feed.sampling import MAX_TEST_FRAMES
from mcl_jax.data.sequences import SequenceRef, Split
from mcl_jax.embed_step import embedding_program
from mcl_jax.errors import ConfigError, DataError
from mcl_jax.evaluation.embeddings import EmbeddingSet
from mcl_jax.models.layers import WHITE
from mcl_jax.models.registry import Model
from mcl_jax.runtime.mesh import data_mesh, put_rows, replicated
from mcl_jax.runtime.settings import compiler_options
from mcl_jax.utils.progress_bar import ProgressBar
from mcl_jax.utils.pytrees import ArrayTree

_BATCHES_IN_FLIGHT = 2
_FEW_FRAMES = 5
"""A walk of fewer shows a part of a step."""

# A batch, and its rows on the devices.
_Batch = tuple[SequenceBatch, dict[str, jax.Array]]


class Embedder:
    """Embeds whole sequences with a model, packed into rows, on all devices of this host.

    Hosts share the sequences of a split and need no communication until the embeddings are gathered.
    """

    def __init__(self, model: Model, *, rows: int, slots: int):
        """Takes the shape of a test batch, whose rows are rounded up to a multiple of the devices."""
        self.model = model
        # Each host on its own: their numbers of batches differ.
        self._mesh = data_mesh(jax.local_devices())
        self._packer = SequencePacker(rows, slots, self._mesh.size, model.spacing)
        self._embed = embedding_program(model, self._mesh, compiler_options())

    def embed_split(
        self,
        params: ArrayTree,
        batch_stats: ArrayTree,
        split: Split,
        *,
        workers: int,
        timeout: float = 0.0,
        max_frames: int = MAX_TEST_FRAMES,
        skip_unreadable: bool = False,
    ) -> EmbeddingSet:
        """Embeds every sequence of a split; hosts share the work, and each returns all embeddings.

        Args:
            params: parameters of the model.
            batch_stats: its running statistics.
            split: which sequences.
            workers: processes that read; 0 reads in a thread of this one.
            timeout: see `mcl_jax.data.feed.prefetch.prefetched`.
            max_frames: how many frames of a sequence count, its first.
            skip_unreadable: whether sequences that cannot be read are left out, and counted in a line.

        Raises:
            ConfigError: if the model takes frames of another size.
            DataError: if a sequence, or with `skip_unreadable` all of them, cannot be read, or an embedding
                is not finite in half precision.
            StalledError: if reading stands still.
        """
        self._require_frames(split.frame_shape)
        sequences = split.sequences
        host, hosts = jax.process_index(), jax.process_count()
        if len(sequences) < hosts:  # some would have none, and not know the shape of what they share
            host, hosts = 0, 1
        mine = range(host, len(sequences), hosts)
        loader = SequenceLoader(sequences, split.source, max_frames, skip_unreadable, split.frame_shape)
        was_read = np.zeros(len(mine), bool)

        def readable(loaded: Iterator[Arrays]) -> Iterator[np.ndarray]:
            for place, sequence in enumerate(_with_bar(loaded, len(mine))):
                was_read[place] = len(sequence["frames"]) > 0
                if was_read[place]:
                    yield sequence["frames"]

        with prefetched(loader, mine, workers, timeout=timeout) as loaded:
            embedded = self.embed(params, batch_stats, readable(loaded), one=split.one)
        whole = np.zeros((len(mine), *embedded.shape[1:]), np.float32)
        whole[was_read] = embedded
        present = _gather(was_read[:, None, None], len(sequences), hosts)[:, 0, 0]
        return _embedding_set(_gather(whole, len(sequences), hosts), split, present, loader)

    def embedding_shape(self, params: ArrayTree, batch_stats: ArrayTree) -> tuple[int, int]:
        """Returns parts and channels of an embedding."""
        frames = jax.ShapeDtypeStruct((1, 1, *self.model.frame_shape), jnp.uint8)
        ids = jax.ShapeDtypeStruct((1, 1), jnp.int32)

        def output(*arrays: Any) -> jax.Array:
            module = self.model.merge(*arrays[:2])
            return module(*arrays[2:], num_segments=1, train=False).embeddings

        _, parts, channels = jax.eval_shape(output, params, batch_stats, frames, ids).shape
        return parts, channels

    def embed(
        self,
        params: ArrayTree,
        batch_stats: ArrayTree,
        sequences: Iterable[np.ndarray],
        *,
        one: int = WHITE,
    ) -> np.ndarray:
        """Returns the embeddings [n, p, c] float32 of sequences uint8 [s, *frame_shape], in their order.

        Args:
            params: parameters of the model, on the host or on devices.
            batch_stats: its running statistics.
            sequences: any number; their frames have the model's `frame_shape`.
            one: the pixel value that the model sees as 1.
        """
        params, batch_stats = self.put(params, batch_stats)
        embedded = self._embed_all(params, batch_stats, _noting_short_ones(sequences), one)
        if not embedded:
            return np.empty((0, *self.embedding_shape(params, batch_stats)), np.float32)
        return np.stack([embedded[i] for i in range(len(embedded))])

    def compile_all(self, params: ArrayTree, batch_stats: ArrayTree) -> int:
        """Compiles the programs that any number of walks of any lengths can need; returns how many.

        Args:
            params: parameters of the model, on the host or on devices.
            batch_stats: its running statistics.
        """
        params, batch_stats = self.put(params, batch_stats)
        shapes = self._packer.shapes(MAX_TEST_FRAMES)
        for shape in shapes:
            empty: SequenceBatch = {
                "frames": np.zeros((shape.rows, shape.slots, *self.model.frame_shape), np.uint8),
                "segment_ids": np.full((shape.rows, shape.slots), EMPTY, np.int32),
                "positions": np.full((shape.rows, shape.segments), EMPTY, np.int64),
            }
            _, rows = self._put_frames(empty)
            arguments = params, batch_stats, rows["frames"], rows["segment_ids"], shape.segments
            jax.block_until_ready(self._embed(*arguments))
        return len(shapes)

    def put(self, params: ArrayTree, batch_stats: ArrayTree) -> tuple[ArrayTree, ArrayTree]:
        """Returns the arrays on every device of this host, where they are left if they lie there."""
        whole = replicated(self._mesh)
        leaves = jax.tree.leaves((params, batch_stats))
        if all(isinstance(x, jax.Array) and x.sharding == whole for x in leaves):
            return params, batch_stats
        return jax.device_put(jax.device_get((params, batch_stats)), whole)

    def _require_frames(self, frame_shape: tuple[int, int]) -> None:
        """Raises an error if the frames of a split are of another size than the model takes."""
        if frame_shape != self.model.frame_shape:
            found, taken = ("×".join(map(str, shape)) for shape in (frame_shape, self.model.frame_shape))
            raise ConfigError(
                f"data.dataset: has frames of {found}, but this {self.model.name} takes {taken}; choose "
                "another dataset or another model"
            )

    def _check_range(self, embeddings: np.ndarray) -> None:
        """Raises an error where a number left the range of half precision."""
        if self.model.dtype in ("float16", "bfloat16") and not np.isfinite(embeddings).all():
            raise DataError(
                f"embeddings: not finite in {self.model.dtype}; use float32: eval.precision=float32, or "
                'mcl_jax.load(…, precision="float32"); if they are not finite either, try another checkpoint'
            )

    def _embed_all(
        self, params: ArrayTree, batch_stats: ArrayTree, sequences: Iterator[np.ndarray], one: int
    ) -> dict[int, np.ndarray]:
        embedded: dict[int, np.ndarray] = {}
        in_flight: deque[tuple[SequenceBatch, jax.Array]] = deque()

        def collect() -> None:
            batch, output = in_flight.popleft()
            positions = batch["positions"].reshape(-1)
            embeddings = jax.device_get(output)
            self._check_range(embeddings)
            embedded.update({int(p): embeddings[i] for i, p in enumerate(positions) if p >= 0})

        for batch, on_device in _one_ahead(map(self._put_frames, self._packer.pack(sequences))):
            num_segments = batch["positions"].shape[1]
            arguments = params, batch_stats, on_device["frames"], on_device["segment_ids"], num_segments, one
            with jax.transfer_guard("disallow"):  # all that goes to the devices or comes back is asked for
                output = self._embed(*arguments)
                in_flight.append((batch, output))
                if len(in_flight) > _BATCHES_IN_FLIGHT:
                    collect()
        while in_flight:
            collect()
        return embedded

    def _put_frames(self, batch: SequenceBatch) -> _Batch:
        self.model.spacing.check(batch["segment_ids"])
        return batch, put_rows({"frames": batch["frames"], "segment_ids": batch["segment_ids"]}, self._mesh)


def _one_ahead(batches: Iterator[_Batch]) -> Iterator[_Batch]:
    """Yields batches, each once the next one is put on the devices too.

    A GPU then copies it while it computes; see `mcl_jax.train_loop`.
    """
    ready: deque[_Batch] = deque()
    for batch in batches:
        ready.append(batch)
        if len(ready) > 1:
            yield ready.popleft()
    yield from ready


def _noting_short_ones(sequences: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yields sequences, and says after the last one how many of them have hardly a frame."""
    short: dict[int, int] = {}
    for position, frames in enumerate(sequences):
        if len(frames) < _FEW_FRAMES:
            short[position] = len(frames)
        yield frames
    if short:
        first, frames_of_first = next(iter(short.items()))
        logging.warning(
            "%d walks have fewer than %d frames, too few to know somebody by, such as number %d with %d",
            len(short),
            _FEW_FRAMES,
            first + 1,
            frames_of_first,
        )


def _with_bar(sequences: Iterator[Arrays], count: int) -> Iterator[Arrays]:
    with ProgressBar("embedding", "seq", count, show=jax.process_index() == 0) as waiting:
        for sequence in sequences:
            yield sequence
            waiting.update()


def _gather(mine: np.ndarray, count: int, hosts: int) -> np.ndarray:
    """Returns all hosts' embeddings in order; host h has embedded sequences h, h + hosts, …"""
    if hosts == 1:
        return mine
    padded = np.zeros((-(-count // hosts), *mine.shape[1:]), mine.dtype)
    padded[: len(mine)] = mine
    everyones = multihost_utils.process_allgather(padded)  # [hosts, ⌈count / hosts⌉, p, c]
    return np.swapaxes(everyones, 0, 1).reshape(-1, *mine.shape[1:])[:count]


def _embedding_set(
    embeddings: np.ndarray, split: Split, present: np.ndarray, loader: SequenceLoader
) -> EmbeddingSet:
    """Puts the names of the sequences that were read beside their embeddings [n, p, c].

    Raises:
        DataError: if none was read.
    """
    absent = np.flatnonzero(~present).tolist()
    if absent:
        try:
            loader.read(absent[0])
            example = split.sequences[absent[0]].key
        except DataError as error:
            example = str(error)
        found = f"{len(absent)} of {len(present)} test sequences cannot be read"
        if len(absent) == len(present):
            raise DataError(f"{found}; the first: {example}")
        logging.warning("%s, and are left out; the first: %s", found, example)
    read = [sequence for sequence, there in zip(split.sequences, present, strict=True) if there]
    return labelled(embeddings[present], read)


def labelled(embeddings: np.ndarray, sequences: Sequence[SequenceRef]) -> EmbeddingSet:
    """Returns embeddings [n, p, c] float32 with the names of their sequences."""
    return EmbeddingSet(
        embeddings=embeddings,
        subjects=np.array([s.subject for s in sequences]),
        conditions=np.array([s.condition for s in sequences]),
        views=np.array([s.view for s in sequences]),
    )
