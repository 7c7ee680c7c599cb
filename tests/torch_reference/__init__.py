"""The models, losses and training step again in PyTorch, with the names of OpenGait's `state_dict`s.

Written for comparison only: plain, each sequence by itself where time is convolved.
"""

from torch_reference.foundationgait import FoundationGait
from torch_reference.losses import cross_entropy, metric_loss
from torch_reference.models import DeepGaitV2, GaitBase, GaitGL, GaitPart, GaitSet
from torch_reference.swingait import SwinGait
from torch_reference.train import Optimizer, Recipe, TorchTrainer

MODELS = {
    "gaitset": GaitSet,
    "gaitbase": GaitBase,
    "deepgaitv2": DeepGaitV2,
    "gaitpart": GaitPart,
    "gaitgl": GaitGL,
    "swingait": SwinGait,
    "foundationgait": FoundationGait,
}
"""Our name of a model → PyTorch's class."""

__all__ = [
    "MODELS",
    "Optimizer",
    "Recipe",
    "TorchTrainer",
    "cross_entropy",
    "metric_loss",
]
