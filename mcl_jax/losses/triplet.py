"""Triplet loss over all triplets of a batch (Hermans et al. 2017, arXiv:1703.07737, "batch all")."""

from jaxtyping import Array, Bool, Float, Int

from mcl_jax.losses.pairwise import Metrics, pairwise_distance, triplet_hinge


def triplet_loss(
    embeddings: Float[Array, "n p c"],
    labels: Int[Array, " n"],
    margin: float = 0.2,
    *,
    valid: Bool[Array, " n"] | None = None,
) -> tuple[Float[Array, ""], Metrics]:
    """Returns the part-wise triplet loss.

    Args:
        embeddings: [n, parts, channels].
        labels: [n], class of each sequence; any multiset.
        margin: least difference between the distances to a negative and to a positive.
        valid: [n], False for rows without a sequence; None if all rows have one.

    Returns:
        The loss, a scalar, and the metrics of `pairwise.triplet_hinge`.
    """
    return triplet_hinge(pairwise_distance(embeddings), labels, margin, valid=valid)
