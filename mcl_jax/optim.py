"""The optimisers of the reference, as optax chains."""

from collections.abc import Sequence

import jax.numpy as jnp
import optax


def multi_step(lr: float, milestones: Sequence[int], gamma: float) -> optax.Schedule:
    """Returns the schedule lr · gamma^(milestones passed).

    The step whose 0-based index is a milestone already uses the lower rate.
    """
    edges = jnp.array(milestones, jnp.int32)

    def schedule(step: optax.ScalarOrSchedule) -> jnp.ndarray:
        return lr * gamma ** (jnp.asarray(step) >= edges).sum()

    return schedule


def make_optimizer(
    name: str, schedule: optax.Schedule, *, momentum: float, weight_decay: float
) -> optax.GradientTransformation:
    """Returns PyTorch's SGD or Adam: the decay is added to the gradient of every parameter, as L2 loss.

    Args:
        name: sgd or adam.
        schedule: learning rate of a 0-based step.
        momentum: of sgd.
        weight_decay: factor on the parameters.
    """
    decay = optax.add_decayed_weights(weight_decay)
    rule = {"sgd": lambda: optax.trace(momentum), "adam": optax.scale_by_adam}[name]()
    return optax.chain(decay, rule, optax.scale_by_learning_rate(schedule))
