"""The training state: step, parameters, batch statistics, optimiser state."""

import dataclasses

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


def create_state(
    params: ArrayTree, batch_stats: ArrayTree, optimizer: optax.GradientTransformation
) -> TrainState:
    """Returns the state before the first update."""
    opt_state = jax.jit(optimizer.init)(params)  # one program instead of one for every shape
    return TrainState(jnp.zeros((), jnp.int32), params, batch_stats, opt_state)
