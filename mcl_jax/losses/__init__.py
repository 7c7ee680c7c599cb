"""Losses over part embeddings: plain, jittable functions of arrays."""

from mcl_jax.losses.cross_entropy import cross_entropy_loss
from mcl_jax.losses.mcl import mcl_loss
from mcl_jax.losses.triplet import triplet_loss

__all__ = ["cross_entropy_loss", "mcl_loss", "triplet_loss"]
