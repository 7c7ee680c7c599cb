"""One training step and its schedule."""

from dataclasses import dataclass

import torch

from torch_reference.losses import cross_entropy, metric_loss


@dataclass(frozen=True)
class Optimizer:
    """Optimiser and schedule of a run; `groups` are by our names, and for our side alone."""

    name: str = "sgd"
    lr: float = 0.1
    weight_decay: float = 5e-4
    milestones: tuple[int, ...] = (4, 8)
    groups: tuple[tuple[str, float, float], ...] = ()


@dataclass(frozen=True)
class Recipe:
    """Losses of a run; `gamma` None means the triplet loss, `ce_weight` None no classifier.

    With `freeze_batch_norm` the batch norms train in evaluation mode, as OpenGait's `fix_BN` has them.
    """

    margin: float = 0.2
    gamma: float | None = None
    weight: float = 1.0
    ce_weight: float | None = 1.0
    ce_scale: float = 16.0
    ce_smoothing: float = 0.1
    freeze_batch_norm: bool = False


class TorchTrainer:
    def __init__(self, model, recipe, optimizer=Optimizer()):
        self.model, self.recipe = model.train(), recipe
        if recipe.freeze_batch_norm:
            for module in model.modules():
                if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                    module.eval()
        options = {"lr": optimizer.lr, "weight_decay": optimizer.weight_decay}
        if optimizer.name == "sgd":
            self.optimizer = torch.optim.SGD(model.parameters(), momentum=0.9, **options)
        else:
            self.optimizer = torch.optim.Adam(model.parameters(), **options)
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, optimizer.milestones, 0.1)
        self.iteration = 0

    def step(self, frames, lengths, labels):
        """Returns (embeddings, logits, total loss) and leaves the gradients in place."""
        recipe = self.recipe
        embeddings, logits = self.model(frames, lengths)
        loss = recipe.weight * metric_loss(embeddings, labels, recipe.margin, recipe.gamma or 0.0).mean()
        if recipe.ce_weight is not None:
            classified = cross_entropy(logits, labels, recipe.ce_scale, recipe.ce_smoothing)
            loss = loss + recipe.ce_weight * classified
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        self.iteration += 1
        return embeddings.detach(), None if logits is None else logits.detach(), loss.item()

    def checkpoint(self):
        """The content of a checkpoint file as OpenGait writes it."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "iteration": self.iteration,
        }
