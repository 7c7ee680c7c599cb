"""One update of the parameters: a pure function of (state, batch)."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from mcl_jax.losses.pairwise import Metrics
from mcl_jax.losses.total import total_loss
from mcl_jax.models.layers import WHITE, as_models_take
from mcl_jax.models.registry import Model
from mcl_jax.training.state import TrainState
from mcl_jax.utils.pytrees import ArrayTree, norm

StepFunction = Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, Metrics]]


def make_train_step(
    model: Model,
    optimizer: optax.GradientTransformation,
    losses: Mapping[str, Mapping[str, Any]],
    *,
    remat: bool = False,
    freeze_batch_norm: bool = False,
    seed: int = 0,
    one: int = WHITE,
) -> StepFunction:
    """Returns the update as a pure function of (state, batch), not yet compiled.

    Args:
        model: structure of the model.
        optimizer: the optimiser, with its schedule.
        losses: name of a loss → weight and arguments, see `total_loss`.
        remat: whether to compute activations within blocks again for the gradient instead of keeping them.
        freeze_batch_norm: whether batch normalisation uses its running statistics without changing them.
        seed: random seed for the numbers that the model draws in each step.
        one: the pixel value that the model sees as 1.

    Returns:
        A function of the state and a `packing.TrainBatch` on devices.
    """

    def train_step(state: TrainState, batch: dict[str, jax.Array]) -> tuple[TrainState, Metrics]:
        labels = batch["labels"]
        drawn = {"key": jax.random.fold_in(jax.random.key(seed), state.step)} if model.draws else {}

        def loss_of(params: ArrayTree) -> tuple[jax.Array, tuple[Metrics, ArrayTree]]:
            module = model.merge(params, state.batch_stats, remat=remat, frozen=freeze_batch_norm)
            frames, ids = as_models_take(batch["frames"], one), batch["segment_ids"]
            output = module(frames, ids, num_segments=labels.shape[1], train=True, **drawn)
            total, metrics = total_loss(output, labels.reshape(-1), losses)
            return total, (metrics, nnx.to_pure_dict(nnx.state(module, nnx.BatchStat)))

        gradients, (metrics, batch_stats) = jax.grad(loss_of, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        metrics["gradient_norm"] = norm(gradients)
        metrics["sequences"] = (labels >= 0).sum()
        metrics["frames"] = (batch["segment_ids"] >= 0).sum()
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, batch_stats, opt_state), jax.tree.map(jnp.asarray, metrics)

    return train_step
