"""The gait models, by name."""

from collections.abc import Callable

from mcl_jax.models.deepgaitv2 import DeepGaitV2
from mcl_jax.models.gaitbase import GaitBase
from mcl_jax.models.gaitset import GaitSet
from mcl_jax.models.layers import GaitOutput

GaitModel = GaitBase | GaitSet | DeepGaitV2

MODELS: dict[str, Callable[..., GaitModel]] = {
    "gaitset": GaitSet,
    "gaitbase": GaitBase,
    "deepgaitv2": DeepGaitV2,
}
"""Model name → module."""

__all__ = ["MODELS", "DeepGaitV2", "GaitBase", "GaitModel", "GaitOutput", "GaitSet"]
