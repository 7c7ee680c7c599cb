"""The optimisers and learning-rate schedules of the reference, as optax has them, by name."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import optax

from mcl_jax.arguments import NotNegative, Sizes


def multi_step(
    lr: float, *, milestones: Annotated[Sequence[int], Sizes()] = (), gamma: NotNegative = 0.1
) -> optax.Schedule:
    """Returns the schedule lr · gamma^(milestones passed), PyTorch's MultiStepLR.

    The step whose 0-based index is a milestone already uses the lower rate.
    """
    return optax.piecewise_constant_schedule(lr, dict.fromkeys(milestones, gamma))


def sgd(
    schedule: optax.Schedule,
    *,
    momentum: NotNegative = 0.9,
    weight_decay: NotNegative = 5e-4,
    clip_norm: NotNegative = 0.0,
) -> optax.GradientTransformation:
    """Returns PyTorch's SGD: the decay is added to the gradient of every parameter, as L2 loss.

    Gradients of a larger norm than `clip_norm` are scaled down to it before; 0 leaves them all.
    """
    return _with_decay(optax.trace(momentum), schedule, weight_decay, clip_norm)


def adam(
    schedule: optax.Schedule, *, weight_decay: NotNegative = 5e-4, clip_norm: NotNegative = 0.0
) -> optax.GradientTransformation:
    """Returns PyTorch's Adam: the decay is added to the gradient of every parameter, as L2 loss.

    Gradients of a larger norm than `clip_norm` are scaled down to it before; 0 leaves them all.
    """
    return _with_decay(optax.scale_by_adam(), schedule, weight_decay, clip_norm)


def _with_decay(
    rule: optax.GradientTransformation, schedule: optax.Schedule, weight_decay: float, clip_norm: float
) -> optax.GradientTransformation:
    # Without clipping nothing stands in front: the state of the optimiser is as in checkpoints without it.
    clipping = (optax.clip_by_global_norm(clip_norm),) if clip_norm else ()
    return optax.chain(
        *clipping, optax.add_decayed_weights(weight_decay), rule, optax.scale_by_learning_rate(schedule)
    )


SCHEDULES: dict[str, Callable[..., optax.Schedule]] = {"multi_step": multi_step}
"""Name in `schedule.name` → function of the rate and its own arguments, which are config keys."""

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {"sgd": sgd, "adam": adam}
"""Name in `optimizer.name` → function of the schedule and its own arguments, which are config keys."""

PROVIDED: dict[str, Sequence[Any]] = {"schedule": ("lr",), "optimizer": ("schedule",)}
"""Config block → arguments of its functions that are no keys of it."""
