"""Fixtures: a hub on localhost, and a checkpoint for it."""

from hub_fixtures import checkpoint, hub

__all__ = ["checkpoint", "hub"]
