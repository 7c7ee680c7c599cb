"""Distances between all pairs of a batch, and the sums over its triplets."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from mcl_jax.ops.per_device import on_every_device

Metrics = dict[str, Array]

_Sums = tuple[Array, Array, Array, Array]

# Number of distances processed together; they fit a CPU's cache.
_DISTANCES_AT_ONCE = 1 << 20


def pairwise_distance(embeddings: Float[Array, "n p c"]) -> Float[Array, "p n n"]:
    """Returns the Euclidean distances √relu(|x|² + |y|² − 2x·y) of all pairs, part by part.

    An embedding's distance to itself is exactly 0. Equal embeddings get a zero gradient, never NaN.
    Embeddings that are split over devices are gathered once, and each device gets all distances.
    """
    x = on_every_device(embeddings).swapaxes(0, 1)
    squared_norm = jnp.square(x).sum(axis=-1)
    inner = jnp.einsum("pic,pjc->pij", x, x, precision=lax.Precision.HIGHEST)
    squared = squared_norm[:, :, None] + squared_norm[:, None, :] - 2 * inner
    # The root's derivative would amplify rounding errors on the diagonal.
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
    """Averages relu(d(a, p)^e − d(a, n)^e + margin) over the triplets for which it is not zero.

    All triplets of the batch count; an anchor is also one of its own positives. Any labels are allowed;
    without a negative, the loss is 0.

    Args:
        distances: [p, n, n], distance of two sequences in each part.
        labels: [n], class of each sequence.
        margin: the margin, in units of distance^exponent.
        exponent: e, at least 1.
        valid: [n], False for rows to leave out; None if all count.

    Returns:
        The mean over parts of the per-part loss, and per-part metrics [p]: `loss`; `hard_loss`, the largest
        term; `loss_num`, the number of terms that are not zero; `mean_dist`, the mean of d over all pairs.
    """
    if valid is None:
        valid = jnp.ones(labels.shape, bool)
    pairs = valid[:, None] & valid[None, :]
    same = labels[:, None] == labels[None, :]
    to = distances**exponent
    total, number = _sum_hinges(to, same & pairs, ~same & pairs, margin)
    farthest = jnp.where(same & pairs, to, -jnp.inf).max(axis=2)
    nearest = jnp.where(~same & pairs, to, jnp.inf).min(axis=2)
    # An anchor's largest term has its farthest positive and its nearest negative.
    hardest = jax.nn.relu(farthest - nearest + margin).max(axis=1)

    loss = total / jnp.maximum(number, 1)
    mean_dist = (distances * pairs).sum(axis=(1, 2)) / jnp.maximum(pairs.sum(), 1)
    metrics = {"loss": loss, "hard_loss": hardest, "loss_num": number, "mean_dist": mean_dist}
    return loss.mean(), jax.tree.map(lax.stop_gradient, metrics)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _sum_hinges(
    distances: Float[Array, "p n n"],
    positive: Bool[Array, "n n"],
    negative: Bool[Array, "n n"],
    margin: float,
) -> tuple[Float[Array, " p"], Float[Array, " p"]]:
    """Returns the sum of the terms of each part, and the number that are not zero.

    No term is stored. The gradient only needs counts, which are computed on the way.
    """
    total, number, _ = _sum_and_count(distances, positive, negative, margin)
    return total, number


def _sum_hinges_forward(
    distances: Array, positive: Array, negative: Array, margin: float
) -> tuple[tuple[Array, Array], Array]:
    total, number, gradient = _sum_and_count(distances, positive, negative, margin)
    return (total, number), gradient


def _sum_hinges_backward(
    margin: float, gradient: Array, cotangents: tuple[Array, Array]
) -> tuple[Array, None, None]:
    return cotangents[0][:, None, None] * gradient, None, None


_sum_hinges.defvjp(_sum_hinges_forward, _sum_hinges_backward)


def _sum_and_count(
    distances: Float[Array, "p n n"],
    positive: Bool[Array, "n n"],
    negative: Bool[Array, "n n"],
    margin: float,
) -> tuple[Float[Array, " p"], Float[Array, " p"], Float[Array, "p n n"]]:
    """Returns sum and number of the terms that are not zero, and the sum's gradient.

    The derivative by the distance to a positive is the number of its terms that are not zero; by the
    distance to a negative, minus that number.
    """
    on_cpu = partial(_by_positives, margin=margin)
    default = partial(_all_at_once, margin=margin)
    return lax.platform_dependent(distances, positive, negative, cpu=on_cpu, default=default)


def _all_at_once(
    distances: Array, positive: Array, negative: Array, *, margin: float
) -> tuple[Array, Array, Array]:
    """Sums over all triplets at once; on a GPU, XLA computes them inside the sums and never stores them."""
    to_positive = jnp.where(positive, distances, -jnp.inf)[:, :, :, None]
    to_negative = jnp.where(negative, distances, jnp.inf)[:, :, None, :]
    terms = jax.nn.relu(to_positive - to_negative + margin)
    active = (terms > 0).astype(distances.dtype)
    of_positive, of_negative = active.sum(axis=3), active.sum(axis=2)
    return terms.sum(axis=(1, 2, 3)), of_positive.sum(axis=(1, 2)), of_positive - of_negative


def _by_positives(
    distances: Array, positive: Array, negative: Array, *, margin: float
) -> tuple[Array, Array, Array]:
    """Loops over the positives, for all anchors at a time; ends after the largest class."""
    n = distances.shape[1]
    anchors = jnp.arange(n)
    columns = jnp.argsort(~positive, axis=1, stable=True)  # the positives of each anchor come first
    number_of_positives = positive.sum(axis=1)

    def one_part(distance: Float[Array, "n n"]) -> tuple[Array, Array, Array]:
        to_negative = jnp.where(negative, distance, jnp.inf)

        def add(sums: _Sums) -> _Sums:
            i, total, number, gradient = sums
            column = columns[:, i]
            to_positive = jnp.where(i < number_of_positives, distance[anchors, column], -jnp.inf)
            terms = jax.nn.relu(to_positive[:, None] - to_negative + margin)
            active = (terms > 0).astype(distance.dtype)
            of_anchor = active.sum(axis=1)
            gradient = (gradient - active).at[anchors, column].add(of_anchor, unique_indices=True)
            return i + 1, total + terms.sum(axis=1), number + of_anchor, gradient

        zero = jnp.zeros(n, distance.dtype)
        start = jnp.zeros((), jnp.int32), zero, zero, jnp.zeros_like(distance)
        _, total, number, gradient = lax.while_loop(
            lambda sums: sums[0] < number_of_positives.max(), add, start
        )
        return total.sum(), number.sum(), gradient

    return lax.map(one_part, distances, batch_size=max(1, _DISTANCES_AT_ONCE // n**2))
