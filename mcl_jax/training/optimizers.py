"""Optimisers and learning-rate schedules by name, made with optax; the reference's come first."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax

from mcl_jax.errors import ConfigError
from mcl_jax.utils.pytrees import ArrayTree, leaves_by_name
from mcl_jax.utils.signatures import AtLeast, NotNegative, PositiveInt, Sizes

Groups = Sequence[tuple[str, float, float]]
"""Groups of parameters: a pattern for their names, a factor for their rate, a factor for their decay.

Names are as in checkpoints, such as "stages/0/conv1/kernel". The first matching group counts. A parameter
that matches none has the factors 1. With a rate factor of 0, a parameter stays unchanged.
"""


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


@dataclasses.dataclass(frozen=True)
class SteppedCosine:
    """A rate that falls in steps along a cosine, down to a minimum; see `stepped_cosine`."""

    lr: float
    steps: int
    every: int
    least: float

    def __call__(self, step: jax.typing.ArrayLike) -> jax.Array:
        """Returns the rate of a step."""
        return self.of_group(step, 1.0)

    def of_group(self, step: jax.typing.ArrayLike, factor: float) -> jax.Array:
        """Returns the rate of a step for parameters with a factor; 0 if the factor is 0."""
        step = jnp.asarray(step)
        done = (step // self.every * self.every) / self.steps
        rate = factor * self.lr * 0.5 * (1 + jnp.cos(jnp.pi * done))
        rate = jnp.where(step < self.steps, jnp.maximum(rate, self.least), self.least)
        return rate if factor else jnp.zeros_like(rate)


def stepped_cosine(
    lr: float, *, steps: PositiveInt, every: PositiveInt = 1_000, least: NotNegative = 1e-6
) -> optax.Schedule:
    """Returns SwinGait's schedule: a cosine in steps of 1,000 updates, and `least` from `steps` on.

    The minimum applies to the rate of each group of parameters, not to the common rate.
    """
    return SteppedCosine(lr, steps, every, least)


def rate_of_group(schedule: optax.Schedule, step: int, factor: float) -> float:
    """Returns the rate of a step for a group of parameters with a factor."""
    if isinstance(schedule, SteppedCosine):
        return float(schedule.of_group(step, factor))
    return factor * float(schedule(step))


def sgd(
    schedule: optax.Schedule,
    *,
    momentum: NotNegative = 0.9,
    weight_decay: NotNegative = 5e-4,
    clip_norm: NotNegative = 0.0,
    groups: Groups = (),
) -> optax.GradientTransformation:
    """Returns PyTorch's SGD: the decay is added to the gradient of every parameter, as L2 loss.

    Args:
        schedule: the rate of each step.
        momentum: share of the previous step to add.
        weight_decay: decay of all parameters.
        clip_norm: gradients with a larger norm are first scaled down to it; 0 scales none.
        groups: see `Groups`.
    """
    return _with_decay(optax.trace(momentum), schedule, weight_decay, clip_norm, groups)


def adam(
    schedule: optax.Schedule,
    *,
    weight_decay: NotNegative = 5e-4,
    clip_norm: NotNegative = 0.0,
    groups: Groups = (),
) -> optax.GradientTransformation:
    """Returns PyTorch's Adam: the decay is added to the gradient of every parameter, as L2 loss.

    Args: see `sgd`.
    """
    return _with_decay(optax.scale_by_adam(), schedule, weight_decay, clip_norm, groups)


def adamw(
    schedule: optax.Schedule,
    *,
    weight_decay: NotNegative = 0.01,
    clip_norm: NotNegative = 0.0,
    groups: Groups = (),
) -> optax.GradientTransformation:
    """Returns PyTorch's AdamW: the decay is added to the step, not to the gradient.

    Loshchilov and Hutter 2019, arXiv:1711.05101.

    Args: see `sgd`.
    """
    return optax.chain(
        *_clipping(clip_norm),
        optax.scale_by_adam(),
        _decay(weight_decay, groups),
        optax.scale_by_learning_rate(schedule),
        *_rates(groups, schedule),
    )


def _with_decay(
    rule: optax.GradientTransformation,
    schedule: optax.Schedule,
    weight_decay: float,
    clip_norm: float,
    groups: Groups,
) -> optax.GradientTransformation:
    return optax.chain(
        *_clipping(clip_norm),
        _decay(weight_decay, groups),
        rule,
        optax.scale_by_learning_rate(schedule),
        *_rates(groups, schedule),
    )


def _clipping(clip_norm: float) -> tuple[optax.GradientTransformation, ...]:
    # Without clipping, add nothing, so that the optimiser's state keeps the form of older checkpoints.
    return (optax.clip_by_global_norm(clip_norm),) if clip_norm else ()


def _decay(weight_decay: float, groups: Groups) -> optax.GradientTransformation:
    if not groups:
        return optax.add_decayed_weights(weight_decay)
    decay_of = _factors(groups, column=2)

    def add(updates: Any, params: Any) -> Any:
        factors = decay_of(params)
        return jax.tree.map(lambda u, p, factor: u + weight_decay * factor * p, updates, params, factors)

    return optax.stateless(add)


def _rates(groups: Groups, schedule: optax.Schedule) -> tuple[optax.GradientTransformation, ...]:
    """Scales updates, which already have the common rate, by the factors of their groups."""
    if not groups:
        return ()
    rate_of = _factors(groups, column=1)
    if isinstance(schedule, SteppedCosine):
        return (_rates_by_step(rate_of, schedule),)

    def scale(updates: Any, _: Any) -> Any:
        return jax.tree.map(lambda update, factor: update * factor, updates, rate_of(updates))

    return (optax.stateless(scale),)


def _rates_by_step(
    rate_of: Callable[[Any], Any], schedule: SteppedCosine
) -> optax.GradientTransformationExtraArgs:
    def init(_: Any) -> optax.ScaleByScheduleState:
        return optax.ScaleByScheduleState(jnp.zeros((), jnp.int32))

    def update(updates: Any, state: optax.ScaleByScheduleState, *_: Any, **__: Any) -> tuple[Any, Any]:
        def scaled(update: jax.Array, factor: float) -> jax.Array:
            ratio = schedule.of_group(state.count, factor) / schedule(state.count)
            return update * ratio.astype(update.dtype)

        updates = jax.tree.map(scaled, updates, rate_of(updates))
        return updates, optax.ScaleByScheduleState(optax.safe_increment(state.count))

    return optax.GradientTransformationExtraArgs(init, update)


def _factors(groups: Groups, column: int) -> Callable[[Any], Any]:
    """Returns a function that gives the factor of each leaf of a tree like the parameters.

    Raises:
        ConfigError: if a group is not a pattern and two factors.
    """
    for group in groups:
        numbers = group[1:]
        if len(group) != 3 or not all(isinstance(n, int | float) and n >= 0 for n in numbers):
            raise ConfigError(
                f"optimizer.groups: {group} is not a group; expected a pattern, a factor for the "
                "rate and a factor for the decay"
            )
    try:
        patterns = [(re.compile(group[0]), float(group[column])) for group in groups]
    except (re.error, TypeError) as error:
        raise ConfigError(f"optimizer.groups: invalid pattern: {error}") from None

    def factor(path: Any, _: Any) -> float:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return next((number for pattern, number in patterns if pattern.search(name)), 1.0)

    return lambda tree: jax.tree_util.tree_map_with_path(factor, tree)


def check_groups(groups: Groups, model: str, params: ArrayTree) -> None:
    """Checks that each group has a parameter of a model, so that a misspelt pattern is noticed.

    Args:
        groups: those of an optimiser.
        model: name of the model, for the message.
        params: its parameters, or their shapes.

    Raises:
        ConfigError: naming the first group without a parameter, or what is no group.
    """
    _factors(groups, column=1)  # refuses anything that is no group
    left = list(leaves_by_name(params))
    for pattern, *_ in groups:
        taken = [name for name in left if re.search(pattern, name)]
        if not taken:
            shown = ", ".join(left[:: max(1, len(left) // 4)][:4])
            there = f"those that are left are such as {shown}" if shown else "none is left"
            raise ConfigError(
                f"optimizer.groups: {pattern!r} matches no parameter of {model} that the groups before it "
                f"leave; {there}"
            )
        left = [name for name in left if name not in taken]


SCHEDULES: dict[str, Callable[..., optax.Schedule]] = {
    "multi_step": multi_step,
    "cosine": cosine,
    "stepped_cosine": stepped_cosine,
}
"""Name in `schedule.name` → function of the rate and its own arguments, which are config keys."""

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": sgd,
    "adam": adam,
    "adamw": adamw,
}
"""Name in `optimizer.name` → function of the schedule and its own arguments, which are config keys."""

PROVIDED: dict[str, Sequence[Any]] = {"schedule": ("lr",), "optimizer": ("schedule",)}
"""Config block → arguments of its functions that are not config keys."""
