"""Gait recognition with Multi-view Consistency Loss, in JAX."""

__version__ = "0.1.0"
