"""Silhouettes of the people who walk through a video, past a camera, or through ready masks."""

from mcl_jax.footage.extraction import Footage, extract, stream
from mcl_jax.footage.options import FootageOptions
from mcl_jax.footage.walks import Quality, Rejection, Track

__all__ = ["Footage", "FootageOptions", "Quality", "Rejection", "Track", "extract", "stream"]
