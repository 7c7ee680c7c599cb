"""Testing: embeddings of whole sequences, then the dataset's protocol, then the report."""

import functools
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from ml_collections import ConfigDict
from tqdm import tqdm

from mcl_jax.config import NO_PROTOCOL
from mcl_jax.data.datasets import DATASETS, OpenDataset
from mcl_jax.data.feed.loaders import SequenceLoader
from mcl_jax.data.feed.packing import SequenceBatch, SequencePacker
from mcl_jax.data.feed.prefetch import prefetched
from mcl_jax.data.feed.ring import Arrays
from mcl_jax.data.sequences import SequenceRef, Split
from mcl_jax.data.stores.frames import Source
from mcl_jax.errors import DataError
from mcl_jax.evaluation.embeddings import EmbeddingSet
from mcl_jax.evaluation.report import clear_report, write_report
from mcl_jax.evaluation.rerank import Rerank
from mcl_jax.runtime import compiler_options
from mcl_jax.sharding import data_mesh, put_rows, replicated, split_rows
from mcl_jax.train_state import Model, Tree

_BATCHES_IN_FLIGHT = 2


class NotScoredError(DataError):
    """The embeddings were written, but the protocol does not fit the data."""


class Embedder:
    """Embeds whole sequences with a model, packed into rows, on all devices of this host.

    Hosts share the sequences and need no communication until the embeddings are gathered.
    """

    def __init__(self, model: Model, *, rows: int, slots: int):
        """Takes the shape of a test batch, whose rows are rounded up to a multiple of the devices."""
        self.model = model
        # Each host on its own: their numbers of batches differ.
        self._mesh = data_mesh(jax.local_devices())
        self._packer = SequencePacker(rows, slots, row_multiple=self._mesh.size)

        whole, split = replicated(self._mesh), split_rows(self._mesh)

        @functools.partial(
            jax.jit,
            static_argnums=4,
            in_shardings=(whole, whole, split, split),
            out_shardings=split,
            compiler_options=compiler_options(),
        )
        def embed(
            params: Tree, batch_stats: Tree, frames: jax.Array, segment_ids: jax.Array, num_segments: int
        ) -> jax.Array:
            module = model.merge(params, batch_stats)
            output = module(frames, segment_ids, num_segments=num_segments, train=False)
            return output.embeddings.astype(jnp.float32)

        self._embed = embed

    def __call__(
        self, params: Tree, batch_stats: Tree, records: Sequence[SequenceRef], source: Source, *, workers: int
    ) -> np.ndarray:
        """Returns the embeddings [n, p, c] float32 of the records, in their order.

        Raises:
            DataError: if a sequence cannot be read.
        """
        host, hosts = jax.process_index(), jax.process_count()
        if len(records) < hosts:  # some would have none, and not know the shape of what they share
            host, hosts = 0, 1
        mine = range(host, len(records), hosts)
        params, batch_stats = jax.device_put(jax.device_get((params, batch_stats)), replicated(self._mesh))
        with prefetched(SequenceLoader(records, source), mine, workers) as sequences:
            frames = (sequence["frames"] for sequence in _with_bar(sequences, len(mine)))
            embedded = self._embed_all(params, batch_stats, frames)
        return _gather(embedded, len(records), hosts)

    def _embed_all(
        self, params: Tree, batch_stats: Tree, sequences: Iterator[np.ndarray]
    ) -> dict[int, np.ndarray]:
        embedded: dict[int, np.ndarray] = {}
        in_flight: deque[tuple[SequenceBatch, jax.Array]] = deque()

        def collect() -> None:
            batch, output = in_flight.popleft()
            positions = batch["positions"].reshape(-1)
            embeddings = np.asarray(output)
            embedded.update({int(p): embeddings[i] for i, p in enumerate(positions) if p >= 0})

        for batch in self._packer.pack(sequences):
            on_device = put_rows({k: batch[k] for k in ("frames", "segment_ids")}, self._mesh)
            num_segments = batch["positions"].shape[1]
            frames, segment_ids = on_device["frames"], on_device["segment_ids"]
            output = self._embed(params, batch_stats, frames, segment_ids, num_segments)
            in_flight.append((batch, output))
            if len(in_flight) > _BATCHES_IN_FLIGHT:
                collect()
        while in_flight:
            collect()
        return embedded


def _with_bar(sequences: Iterator[Arrays], count: int) -> Iterator[Arrays]:
    shown = jax.process_index() == 0 and sys.stderr.isatty()
    yield from tqdm(sequences, total=count, unit="seq", desc="embed", dynamic_ncols=True, disable=not shown)


def _gather(embedded: Mapping[int, np.ndarray], count: int, hosts: int) -> np.ndarray:
    """Returns all hosts' embeddings in record order; host h has embedded records h, h + hosts, …"""
    mine = np.stack([embedded[i] for i in range(len(embedded))])
    if hosts == 1:
        return mine
    padded = np.zeros((-(-count // hosts), *mine.shape[1:]), mine.dtype)
    padded[: len(mine)] = mine
    everyones = multihost_utils.process_allgather(padded)  # [hosts, ⌈count / hosts⌉, p, c]
    return np.swapaxes(everyones, 0, 1).reshape(-1, *mine.shape[1:])[:count]


def embedding_set(embeddings: np.ndarray, split: Split) -> EmbeddingSet:
    """Puts the names of the records beside their embeddings [n, p, c]."""
    return EmbeddingSet(
        embeddings=embeddings,
        subjects=np.array([r.subject for r in split.sequences]),
        conditions=np.array([r.condition for r in split.sequences]),
        views=np.array([r.view for r in split.sequences]),
    )


def evaluate(
    config: ConfigDict,
    folder: Path,
    dataset: OpenDataset,
    embedder: Embedder,
    params: Tree,
    batch_stats: Tree,
) -> dict[str, Any]:
    """Tests a model and writes embeddings.npz, metrics.json, table.txt and pictures into a folder.

    Returns:
        The content of metrics.json; empty where nothing is scored: with protocol "none", and on hosts other
        than the first.

    Raises:
        DataError: if a sequence cannot be read.
        NotScoredError: if the protocol does not fit the data; the embeddings, which took the time, are kept.
    """
    split = dataset.test_split()
    logging.info("testing on %d sequences of %d subjects", len(split.sequences), len(split.subjects))
    embeddings = embedder(params, batch_stats, split.sequences, dataset.source, workers=config.data.workers)
    if jax.process_index() != 0:
        return {}

    folder.mkdir(parents=True, exist_ok=True)
    clear_report(folder)
    results = embedding_set(embeddings, split)
    results.save(folder / "embeddings.npz")
    protocol = config.eval.protocol or DATASETS[config.data.dataset].protocol
    if protocol == NO_PROTOCOL:
        print(f"embeddings written to {folder}/")
        return {}
    try:
        metrics = write_report(
            results,
            protocol,
            folder,
            metric=config.eval.metric,
            partition=dataset.partition.probe_set,
            rerank=Rerank() if config.eval.rerank else None,
            silhouettes=SequenceLoader(split.sequences, dataset.source).read,
        )
    except DataError as error:
        raise NotScoredError(
            f"not scored: {error}; the embeddings are in {folder}/, for scripts/score_embeddings.py"
        ) from None
    print(metrics["table"])
    print(f"written to {folder}/")
    return metrics
