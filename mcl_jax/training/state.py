"""The training state: step, parameters, batch statistics, optimiser state, perhaps averaged weights."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

from mcl_jax.utils.pytrees import ArrayTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """State after `step` updates.

    Attributes:
        step: int32 scalar.
        params: trained parameters.
        batch_stats: running means and variances.
        opt_state: state of the optimiser.
    """

    step: jax.Array
    params: ArrayTree
    batch_stats: ArrayTree
    opt_state: optax.OptState


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AveragedState(TrainState):
    """A training state with the weights averaged over its updates.

    Attributes:
        average: `params` and `batch_stats`, each like the trained ones.
    """

    average: Mapping[str, ArrayTree]


def create_state(
    params: ArrayTree, batch_stats: ArrayTree, optimizer: optax.GradientTransformation
) -> TrainState:
    """Returns the state before the first update."""
    opt_state = jax.jit(optimizer.init)(params)  # one program instead of one for every shape
    return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, opt_state)


def with_average(state: TrainState, average: Mapping[str, ArrayTree]) -> AveragedState:
    """Returns a state with other averaged weights, or with some where it had none."""
    return AveragedState(state.step, state.params, state.batch_stats, state.opt_state, average)


def without_average(state: TrainState) -> TrainState:
    """Returns a state without averaged weights."""
    return TrainState(state.step, state.params, state.batch_stats, state.opt_state)


def start_average(state: TrainState) -> AveragedState:
    """Returns a state whose averaged weights are its present ones."""
    # Copied, because the state is donated, and an array can be donated only once.
    copies = jax.jit(lambda weights: jax.tree.map(jnp.copy, weights))
    return with_average(state, copies({"params": state.params, "batch_stats": state.batch_stats}))
