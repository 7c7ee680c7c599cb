"""Galleries: named people with the embeddings of their walks, and identification of new walks."""

from mcl_jax.gallery.calibration import Calibration
from mcl_jax.gallery.gallery import Answer, Gallery, Match, open_gallery

__all__ = ["Answer", "Calibration", "Gallery", "Match", "open_gallery"]
