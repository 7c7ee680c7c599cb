"""Toy models of all kinds in mcl_jax, and in PyTorch to write checkpoints."""

from dataclasses import dataclass
from typing import Any

import torch
import torch_reference
from torch_reference import Optimizer, Recipe, TorchTrainer

from mcl_jax.models.registry import complete_block, create_model

SGD = Optimizer()


@dataclass(frozen=True)
class Toy:
    """A model of both kinds with the same sizes."""

    name: str
    sizes: dict[str, Any]

    @property
    def block(self):
        """The whole `model` block."""
        return complete_block({"name": self.name, **self.sizes})

    def torch_model(self):
        torch.manual_seed(0)
        return torch_reference.MODELS[self.name](**self.sizes)

    def shapes(self, **changes):
        """Returns the shapes of our parameters and batch statistics."""
        model = create_model(self.name, self.sizes | changes, dtype="float32")
        return model.shapes()

    def trained(self, optimizer=SGD, steps=2):
        """Returns PyTorch's training after a few steps on random clips."""
        ce_weight = None if "num_classes" not in self.sizes else 1.0
        trainer = TorchTrainer(self.torch_model(), Recipe(ce_weight=ce_weight), optimizer)
        labels = torch.tensor([0, 0, 1, 1])
        for _ in range(steps):
            trainer.step(torch.rand(8, 64, 8), [2, 2, 2, 2], labels)
        return trainer


CHANNELS = (2, 4, 4, 6)
TOYS = {
    "gaitset": Toy("gaitset", {"channels": (2, 3, 4), "embed_dim": 5}),
    "gaitset_bins": Toy("gaitset", {"channels": (2, 3, 4), "embed_dim": 5, "bins": (8, 1)}),
    "gaitpart": Toy("gaitpart", {"channels": (2, 3, 4), "strips": (1, 4, 8), "embed_dim": 5}),
    "gaitgl": Toy("gaitgl", {"form": "small", "channels": (2, 3, 4), "necks": False, "num_classes": 3}),
    "gaitgl_large": Toy("gaitgl", {"form": "large", "channels": CHANNELS, "necks": False, "num_classes": 3}),
    "gaitgl_necks": Toy("gaitgl", {"form": "large", "channels": CHANNELS, "necks": True, "num_classes": 3}),
    "swingait": Toy(
        "swingait",
        {"layers": (1, 1, 2, 1), "channels": (2, 4), "widths": (16, 32), "parts": 3, "num_classes": 3},
    ),
    "foundationgait": Toy(
        "foundationgait",
        {
            "mode": "p3d",
            "layers": (1, 1, 2, 1),
            "channels": CHANNELS,
            "bins": (4, 1),
            "embed_dim": 5,
            "num_classes": 3,
        },
    ),
    "gaitbase": Toy("gaitbase", {"channels": CHANNELS, "embed_dim": 5, "num_classes": 3}),
    "gaitbase_plain": Toy(
        "gaitbase",
        {"channels": CHANNELS, "embed_dim": 5, "num_classes": 3, "backbone": "plain", "bins": (8, 2)},
    ),
    "gaitbase_sizes": Toy(
        "gaitbase",
        {
            "channels": (2, 4, 4, 6),
            "layers": (2, 1, 3, 1),
            "strides": (1, 2, 1, 2),
            "max_pool": True,
            "bins": (8, 2),
            "embed_dim": 5,
            "num_classes": 3,
        },
    ),
    **{
        f"deepgaitv2_{mode}": Toy(
            "deepgaitv2", {"mode": mode, "layers": (1, 2, 1, 1), "channels": CHANNELS, "num_classes": 3}
        )
        for mode in ("2d", "3d", "p3d")
    },
}
