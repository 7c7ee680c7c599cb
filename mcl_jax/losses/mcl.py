"""Multi-view Consistency Loss: a triplet loss that weighs every distance d by d^γ."""

from jaxtyping import Array, Bool, Float, Int

from mcl_jax.losses.pairwise import Metrics, pairwise_distance, triplet_hinge
from mcl_jax.utils.signatures import NotNegative


def mcl_loss(
    embeddings: Float[Array, "n p c"],
    labels: Int[Array, " n"],
    margin: float = 0.6,
    gamma: NotNegative = 0.6,
    *,
    valid: Bool[Array, " n"] | None = None,
) -> tuple[Float[Array, ""], Metrics]:
    """Returns the part-wise Multi-view Consistency Loss.

    A pair's own distance is its weight, so the views of a subject that lie far apart are pulled hardest.
    The gradient flows through the weight too. View labels are not used. gamma = 0 gives the triplet loss.

    Args:
        embeddings: [n, parts, channels].
        labels: [n], class of each sequence; any multiset.
        margin: least difference between the weighted distances to a negative and to a positive.
        gamma: exponent of the weight, at least 0.
        valid: [n], False for rows without a sequence; None if all rows have one.

    Returns:
        The loss, a scalar, and the metrics of `pairwise.triplet_hinge`; their `mean_dist` is unweighted.
    """
    return triplet_hinge(pairwise_distance(embeddings), labels, margin, exponent=1 + gamma, valid=valid)
