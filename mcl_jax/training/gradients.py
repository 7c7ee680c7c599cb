"""Gradients of the losses: of a batch at once, or of one chunk of its rows after the other.

A loss of distances compares all sequences of a batch, so the gradients of a batch's chunks do not add up to
the gradient of the batch. But the loss depends on the parameters through the model's outputs alone. So the
outputs of all chunks are computed first, then the gradient of the loss by these outputs, and then each chunk
runs again and takes its share back to the parameters (GradCache; Gao et al. 2021, arXiv:2101.06983). Only the
activations of one chunk are in memory at a time.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from mcl_jax.losses.pairwise import Metrics
from mcl_jax.losses.total import total_loss
from mcl_jax.models.base import GaitOutput
from mcl_jax.ops.per_device import rows_in_chunks, rows_of_chunks
from mcl_jax.utils.pytrees import ArrayTree

Rows = Mapping[str, jax.Array]
"""Rows of a `packing.TrainBatch`."""

Forward = Callable[[ArrayTree, Rows, jax.Array | None], tuple[GaitOutput, ArrayTree]]
"""Function of parameters, rows and the key of a model that draws; returns outputs and new statistics."""

Losses = Mapping[str, Mapping[str, Any]]


class Gradients(NamedTuple):
    """Gradients of a batch.

    Attributes:
        params: gradient of the total loss by each parameter.
        metrics: those of `total_loss`.
        batch_stats: the running statistics after the batch.
    """

    params: ArrayTree
    metrics: Metrics
    batch_stats: ArrayTree


def of_batch(
    forward: Forward, losses: Losses, params: ArrayTree, batch: Rows, key: jax.Array | None
) -> Gradients:
    """Returns the gradients of a batch whose activations are all in memory at once.

    Args:
        forward: runs the model.
        losses: name of a loss → weight and arguments, see `total_loss`.
        params: parameters.
        batch: a `packing.TrainBatch`.
        key: for a model that draws; None for others.
    """

    def loss_of(params: ArrayTree) -> tuple[jax.Array, tuple[Metrics, ArrayTree]]:
        output, batch_stats = forward(params, batch, key)
        total, metrics = total_loss(output, batch["labels"].reshape(-1), losses)
        return total, (metrics, batch_stats)

    gradients, (metrics, batch_stats) = jax.grad(loss_of, has_aux=True)(params)
    return Gradients(gradients, metrics, batch_stats)


def of_chunks(
    forward: Forward,
    losses: Losses,
    params: ArrayTree,
    batch_stats: ArrayTree,
    batch: Rows,
    key: jax.Array | None,
    chunks: int,
) -> Gradients:
    """Returns the gradients of a batch, with the activations of one chunk in memory at a time.

    They are those of the whole batch, up to rounding, where sequences meet in the loss alone. Batch
    normalisation uses the statistics of each chunk; the running statistics move by the mean of the chunks'
    moves, weighed by their frames.

    Args:
        forward: runs the model.
        losses: name of a loss → weight and arguments, see `total_loss`.
        params: parameters.
        batch_stats: the running statistics before the batch.
        batch: a `packing.TrainBatch`.
        key: for a model that draws, which draws anew for each chunk; None for others.
        chunks: number of chunks; divides the rows.
    """
    parts = {name: rows_in_chunks(rows, chunks) for name, rows in batch.items()}
    keys = None if key is None else jax.random.split(key, chunks)
    present = parts["segment_ids"] >= 0
    shares = present.sum(axis=(1, 2)) / jnp.maximum(present.sum(), 1)

    def embed(params: ArrayTree, part: Rows, key: jax.Array | None) -> tuple[Any, ArrayTree]:
        output, new_stats = forward(params, part, key)
        return (output.embeddings, output.logits), new_stats

    def loss_of(outputs: Any) -> tuple[jax.Array, Metrics]:
        labels = batch["labels"].reshape(-1)
        # In the order of the batch, so that sums over it are rounded as without chunks.
        embeddings, logits = jax.tree.map(lambda x: _in_batch_order(x, len(batch["labels"])), outputs)
        return total_loss(GaitOutput(embeddings, logits, labels >= 0), labels, losses)

    def add(sums: Any, chunk: Any) -> tuple[Any, None]:
        part, key, by_output, share = chunk
        _, pull_back, new_stats = jax.vjp(lambda params: embed(params, part, key), params, has_aux=True)
        (gradients,) = pull_back(by_output)
        moves = jax.tree.map(lambda new, old: (share * (new - old)).astype(old.dtype), new_stats, batch_stats)
        return jax.tree.map(jnp.add, sums, (gradients, moves)), None

    outputs = lax.map(lambda chunk: embed(params, *chunk)[0], (parts, keys))
    by_outputs, metrics = jax.grad(loss_of, has_aux=True)(outputs)
    zeros = jax.tree.map(jnp.zeros_like, params), batch_stats
    (gradients, new_stats), _ = lax.scan(add, zeros, (parts, keys, by_outputs, shares))
    return Gradients(gradients, metrics, new_stats)


def _in_batch_order(outputs: jax.Array, rows: int) -> jax.Array:
    """Returns outputs [chunks, sequences of a chunk, …] as [sequences, …], in the order of the batch."""
    chunks, sequences, *shape = outputs.shape
    segments = chunks * sequences // rows
    by_row = outputs.reshape(chunks, rows // chunks, segments, *shape)
    return rows_of_chunks(by_row).reshape(chunks * sequences, *shape)
