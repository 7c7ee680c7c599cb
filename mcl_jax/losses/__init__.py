"""Losses over part embeddings and logits: plain, jittable functions of arrays, by name."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

from mcl_jax.losses.cross_entropy import cross_entropy_loss
from mcl_jax.losses.mcl import mcl_loss
from mcl_jax.losses.triplet import triplet_loss


@dataclasses.dataclass(frozen=True)
class Loss:
    """A loss function and the model output it takes.

    Attributes:
        function: function of (embeddings or logits [n, parts, …], labels [n], own arguments, valid=[n]) to a
            scalar and a dict of metrics. Its own arguments are config keys, checked against its signature.
        of: the model output that it takes; a loss of logits needs a model with a classifier.
    """

    function: Callable[..., Any]
    of: Literal["embeddings", "logits"]


LOSSES: dict[str, Loss] = {
    "triplet": Loss(triplet_loss, of="embeddings"),
    "mcl": Loss(mcl_loss, of="embeddings"),
    "cross_entropy": Loss(cross_entropy_loss, of="logits"),
}
"""Name of a block in `loss` → loss."""

PROVIDED = ("embeddings", "logits", "labels", "valid")
"""Arguments of a loss that are not config keys."""

__all__ = ["LOSSES", "PROVIDED", "Loss", "cross_entropy_loss", "mcl_loss", "triplet_loss"]
