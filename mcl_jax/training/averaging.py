"""Weights averaged over training: an exponential moving average beside the trained ones.

Parameters and running statistics are averaged alike, so that the statistics belong to the averaged
parameters (Tan and Le 2019, EfficientNet, arXiv:1905.11946, test with such averages).
"""

import jax
import jax.numpy as jnp

from mcl_jax.losses.pairwise import Metrics
from mcl_jax.training.state import AveragedState, TrainState, with_average
from mcl_jax.training.step import StepFunction


def averaging(train_step: StepFunction, decay: float) -> StepFunction:
    """Returns an update that also moves the averaged weights towards the new ones.

    Args:
        train_step: from `make_train_step`.
        decay: share of the average that each update keeps, below 1; see `share_kept`.

    Returns:
        A function of an `AveragedState` and a batch.
    """

    def averaged_step(state: TrainState, batch: dict[str, jax.Array]) -> tuple[TrainState, Metrics]:
        if not isinstance(state, AveragedState):
            raise TypeError("the state has no averaged weights; see start_average")
        updated, metrics = train_step(state, batch)
        new = {"params": updated.params, "batch_stats": updated.batch_stats}
        share = 1 - share_kept(state.step, decay)
        average = jax.tree.map(
            lambda old, now: old + share.astype(old.dtype) * (now - old), state.average, new
        )
        return with_average(updated, average), metrics

    return averaged_step


def share_kept(done: jax.Array, decay: float) -> jax.Array:
    """Returns the share of the average that an update keeps: min(decay, (1 + t) / (10 + t)).

    At first it is less than the decay, so that the initial parameters are soon forgotten, as in TensorFlow's
    `ExponentialMovingAverage`.

    Args:
        done: t, the number of updates before this one.
        decay: the share later on.
    """
    t = done.astype(jnp.float32)
    return jnp.minimum(decay, (1 + t) / (10 + t))
