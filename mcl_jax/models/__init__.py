"""The gait models, by name; `base` defines their common interface."""

from mcl_jax.models.base import GaitModule, GaitOutput
from mcl_jax.models.deepgaitv2 import DeepGaitV2
from mcl_jax.models.foundationgait import FoundationGait
from mcl_jax.models.gaitbase import GaitBase
from mcl_jax.models.gaitenergy import GaitEnergy
from mcl_jax.models.gaitgl import GaitGL
from mcl_jax.models.gaitpart import GaitPart
from mcl_jax.models.gaitpocket import GaitPocket
from mcl_jax.models.gaitset import GaitSet
from mcl_jax.models.swingait import SwinGait

MODELS: dict[str, type[GaitModule]] = {
    "gaitset": GaitSet,
    "gaitbase": GaitBase,
    "deepgaitv2": DeepGaitV2,
    "gaitpart": GaitPart,
    "gaitgl": GaitGL,
    "swingait": SwinGait,
    "foundationgait": FoundationGait,
    "gaitenergy": GaitEnergy,
    "gaitpocket": GaitPocket,
}
"""Name in `model.name` → class of the model."""

__all__ = [
    "MODELS",
    "DeepGaitV2",
    "FoundationGait",
    "GaitBase",
    "GaitEnergy",
    "GaitGL",
    "GaitModule",
    "GaitOutput",
    "GaitPart",
    "GaitPocket",
    "GaitSet",
    "SwinGait",
]
