"""Cross-entropy over scaled cosine logits, with label smoothing (Szegedy et al. 2016, arXiv:1512.00567)."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from mcl_jax.losses.pairwise import Metrics
from mcl_jax.utils.signatures import NotNegative, ShareBelowOne


def cross_entropy_loss(
    logits: Float[Array, "n p k"],
    labels: Int[Array, " n"],
    scale: NotNegative = 16.0,
    label_smoothing: ShareBelowOne = 0.1,
    *,
    valid: Bool[Array, " n"] | None = None,
) -> tuple[Float[Array, ""], Metrics]:
    """Returns the cross-entropy, averaged over sequences and parts.

    Args:
        logits: [n, parts, classes], before scaling.
        labels: [n], class of each sequence, in [0, classes).
        scale: factor on the logits.
        label_smoothing: share of the target spread evenly over all classes.
        valid: [n], False for rows without a sequence; None if all rows have one.

    Returns:
        The loss, and scalar metrics: `loss` and `accuracy`, the share of parts that name the right class.
    """
    if valid is None:
        valid = jnp.ones(labels.shape, bool)
    # Labels of invalid rows are arbitrary; class 0 keeps the look-up in range.
    targets = jnp.where(valid, labels, 0)[:, None, None]
    log_probability = jax.nn.log_softmax(scale * logits, axis=-1)
    # Not `take_along_axis`, whose gradient is a scatter.
    is_target = jnp.arange(logits.shape[-1]) == targets
    of_target = jnp.where(is_target, log_probability, 0).sum(axis=-1)
    terms = -(1 - label_smoothing) * of_target - label_smoothing * log_probability.mean(axis=-1)

    weight = valid[:, None] / (jnp.maximum(valid.sum(), 1) * logits.shape[1])
    loss = (terms * weight).sum()
    accuracy = ((logits.argmax(axis=-1) == targets[..., 0]) * weight).sum()
    return loss, jax.tree.map(lax.stop_gradient, {"loss": loss, "accuracy": accuracy})
