"""Optimisers and learning-rate schedules by name, those of the reference first, as optax has them."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import optax

from mcl_jax.errors import ConfigError
from mcl_jax.utils.signatures import AtLeast, NotNegative, PositiveInt, Sizes


def multi_step(
    lr: float, *, milestones: Annotated[Sequence[int], Sizes()] = (), gamma: NotNegative = 0.1
) -> optax.Schedule:
    """Returns the schedule lr · gamma^(milestones passed), PyTorch's MultiStepLR.

    The step whose 0-based index is a milestone already uses the lower rate.
    """
    return optax.piecewise_constant_schedule(lr, dict.fromkeys(milestones, gamma))


def cosine(lr: float, *, steps: PositiveInt, warmup: Annotated[int, AtLeast(0)] = 0) -> optax.Schedule:
    """Returns the schedule that rises to lr over `warmup` steps, then falls to 0 at `steps` along a cosine.

    Loshchilov and Hutter 2017, arXiv:1608.03983.
    """
    if warmup >= steps:
        raise ConfigError(f"schedule.warmup: is {warmup}; expected less than schedule.steps, {steps}")
    return optax.warmup_cosine_decay_schedule(0.0 if warmup else lr, lr, warmup, steps)


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


SCHEDULES: dict[str, Callable[..., optax.Schedule]] = {"multi_step": multi_step, "cosine": cosine}
"""Name in `schedule.name` → function of the rate and its own arguments, which are config keys."""

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {"sgd": sgd, "adam": adam}
"""Name in `optimizer.name` → function of the schedule and its own arguments, which are config keys."""

PROVIDED: dict[str, Sequence[Any]] = {"schedule": ("lr",), "optimizer": ("schedule",)}
"""Config block → arguments of its functions that are no keys of it."""
