"""A hub on the loopback, and a checkpoint to put there."""

from hub_fixtures import checkpoint, hub

__all__ = ["checkpoint", "hub"]
