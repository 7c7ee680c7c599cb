"""PyTorch versions of models, losses and training step, with the names of OpenGait's `state_dict`s.

Written only for comparison, as simply as possible: temporal convolutions take one sequence at a time.
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
