"""The weighted sum of the losses that a config names."""

from collections.abc import Mapping
from typing import Any

import jax

from mcl_jax.errors import ConfigError
from mcl_jax.losses import LOSSES, PROVIDED
from mcl_jax.losses.pairwise import Metrics
from mcl_jax.models.base import GaitModule, GaitOutput
from mcl_jax.utils.signatures import check_arguments, lookup, with_defaults

WEIGHT = "weight"
"""Key in each loss's block, beside its arguments: its factor in the sum; 0 leaves the loss out."""


def complete_losses(losses: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns the blocks of losses with all arguments; missing ones get their defaults.

    Raises:
        ConfigError: if a loss or an argument is unknown.
    """
    return {
        name: {WEIGHT: block.get(WEIGHT, 1.0), **_arguments(name, block)} for name, block in losses.items()
    }


def check_losses(losses: Mapping[str, Mapping[str, Any]], model: str, kind: type[GaitModule]) -> None:
    """Checks the `loss` block of a config.

    Args:
        losses: name of a loss → weight and arguments.
        model: name of the model, for messages.
        kind: class of the model.

    Raises:
        ConfigError: naming the first invalid key.
    """
    for name, block in losses.items():
        loss = lookup("loss", LOSSES, name)
        check_arguments(f"loss.{name}", name, loss.function, _arguments(name, block), PROVIDED)
        weight = block[WEIGHT]
        if not weight >= 0:
            raise ConfigError(f"loss.{name}.{WEIGHT}: is {weight}; must not be negative")
        if weight and loss.of == "logits" and kind.CLASSIFIER is None:
            raise ConfigError(f"loss.{name}: {model} has no classifier; set loss.{name}.{WEIGHT} to 0")
    if not any(block[WEIGHT] for block in losses.values()):
        raise ConfigError("loss: all weights are 0; give at least one loss a weight")


def total_loss(
    output: GaitOutput, labels: jax.Array, losses: Mapping[str, Mapping[str, Any]]
) -> tuple[jax.Array, Metrics]:
    """Returns the weighted sum of the losses, and scalar metrics averaged over parts.

    Args:
        output: the model's output for n sequences.
        labels: int [n], −1 if there is no sequence.
        losses: name of a loss → weight and arguments, all of them.

    Returns:
        The sum, and metrics: `loss`, the same; for each loss NAME `NAME/loss`, its weighted share, and
        `NAME/KEY`, its other metrics.
    """
    valid = labels >= 0
    total: Any = 0.0
    metrics: Metrics = {}
    for name, block in losses.items():
        if block[WEIGHT]:
            loss = LOSSES[name]
            value, figures = loss.function(
                getattr(output, loss.of), labels, **_arguments(name, block), valid=valid
            )
            total = total + block[WEIGHT] * value
            metrics |= {f"{name}/{key}": figure.mean() for key, figure in figures.items()}
            metrics[f"{name}/loss"] = block[WEIGHT] * value
    return total, {"loss": total, **metrics}


def _arguments(name: str, block: Mapping[str, Any]) -> dict[str, Any]:
    given = {key: value for key, value in block.items() if key != WEIGHT}
    function = lookup("loss", LOSSES, name).function
    return with_defaults(f"loss.{name}", name, function, given, PROVIDED)
