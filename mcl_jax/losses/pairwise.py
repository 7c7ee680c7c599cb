"""Distances between all pairs of a batch, and the sums over its triplets."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

Metrics = dict[str, Array]

_POSITIVES_AT_ONCE = 8
_Sums = tuple[Array, Array, Array]


def pairwise_distance(embeddings: Float[Array, "n p c"]) -> Float[Array, "p n n"]:
    """Returns the Euclidean distances √relu(|x|² + |y|² − 2x·y) of all pairs, part by part.

    An embedding's distance to itself is exactly 0. Equal embeddings get a zero gradient, never NaN.
    """
    x = embeddings.swapaxes(0, 1)
    squared_norm = jnp.square(x).sum(axis=-1)
    inner = jnp.einsum("pic,pjc->pij", x, x, precision=lax.Precision.HIGHEST)
    squared = squared_norm[:, :, None] + squared_norm[:, None, :] - 2 * inner
    # What rounding leaves on the diagonal would be blown up by the root's derivative.
    squared = jnp.where(jnp.eye(x.shape[1], dtype=bool), 0, squared)
    return jnp.sqrt(jax.nn.relu(squared))


def triplet_hinge(
    distances: Float[Array, "p n n"],
    labels: Int[Array, " n"],
    margin: float,
    *,
    exponent: float = 1.0,
    valid: Bool[Array, " n"] | None = None,
) -> tuple[Float[Array, ""], Metrics]:
    """Averages relu(d(a, p)^e − d(a, n)^e + margin) over the triplets of a batch where it is not zero.

    All triplets of the batch count, the anchor among its own positives. Any multiset of labels will do:
    where there is no negative, the loss is 0.

    Args:
        distances: [p, n, n], how far apart two sequences are in each part.
        labels: [n], class of each sequence.
        margin: the margin, in units of distance^exponent.
        exponent: e, at least 1.
        valid: [n], False for rows to leave out; None if all count.

    Returns:
        The mean over parts of the per-part loss, and per-part metrics [p]: `loss`; `hard_loss`, the largest
        term; `loss_num`, how many terms are not zero; `mean_dist`, the mean of d over all pairs.
    """
    if valid is None:
        valid = jnp.ones(labels.shape, bool)
    pairs = valid[:, None] & valid[None, :]
    same = labels[:, None] == labels[None, :]
    total, number, hardest = _sum_hinges(distances**exponent, same & pairs, ~same & pairs, margin)

    loss = total / jnp.maximum(number, 1)
    mean_dist = (distances * pairs).sum(axis=(1, 2)) / jnp.maximum(pairs.sum(), 1)
    metrics = {"loss": loss, "hard_loss": hardest, "loss_num": number, "mean_dist": mean_dist}
    return loss.mean(), jax.tree.map(lax.stop_gradient, metrics)


def _sum_hinges(
    distances: Float[Array, "p n n"],
    positive: Bool[Array, "n n"],
    negative: Bool[Array, "n n"],
    margin: float,
) -> tuple[Float[Array, " p"], Float[Array, " p"], Float[Array, " p"]]:
    """Returns sum, number and maximum of the terms of each part, a few positives at a time.

    All terms at once would be [p, n, n, n]: gigabytes for the batches and parts of the published runs. They
    are made again for the gradient.
    """
    parts, n, _ = distances.shape
    padding = -n % _POSITIVES_AT_ONCE
    chunked = (parts, n, -1, _POSITIVES_AT_ONCE)
    to_positive = jnp.pad(distances, ((0, 0), (0, 0), (0, padding))).reshape(chunked)
    is_positive = jnp.pad(positive, ((0, 0), (0, padding))).reshape(chunked[1:])

    @jax.checkpoint
    def add(sums: _Sums, chunk: tuple[Float[Array, "p n k"], Bool[Array, "n k"]]) -> tuple[_Sums, None]:
        total, number, hardest = sums
        terms = jax.nn.relu(chunk[0][:, :, :, None] - distances[:, :, None, :] + margin)
        terms = jnp.where(chunk[1][:, :, None] & negative[:, None, :], terms, 0)
        number += (terms > 0).sum(axis=(1, 2, 3)).astype(number.dtype)
        return (
            total + terms.sum(axis=(1, 2, 3)),
            number,
            jnp.maximum(hardest, terms.max(axis=(1, 2, 3))),
        ), None

    zero = jnp.zeros(parts, distances.dtype)
    sums, _ = lax.scan(
        add, (zero, zero, zero), (jnp.moveaxis(to_positive, 2, 0), jnp.moveaxis(is_positive, 1, 0))
    )
    return sums
