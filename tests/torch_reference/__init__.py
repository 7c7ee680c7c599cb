"""The models, losses and training step again in PyTorch, with the names of OpenGait's `state_dict`s.

Written for comparison only: plain, each sequence by itself where time is convolved.
"""

from torch_reference.losses import cross_entropy, metric_loss
from torch_reference.models import MODELS
from torch_reference.train import Optimizer, Recipe, TorchTrainer

__all__ = [
    "MODELS",
    "Optimizer",
    "Recipe",
    "TorchTrainer",
    "cross_entropy",
    "metric_loss",
]
