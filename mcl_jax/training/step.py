"""One update of the parameters: a pure function of (state, batch)."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from mcl_jax.losses.pairwise import Metrics
from mcl_jax.models.base import GaitOutput
from mcl_jax.models.layers import WHITE, as_models_take
from mcl_jax.models.registry import Model
from mcl_jax.training import gradients
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
    chunks: int = 1,
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
        chunks: number of chunks of rows, one after the other in memory; see `training.gradients`.
        one: the pixel value that the model sees as 1.

    Returns:
        A function of the state and a `packing.TrainBatch` on devices.
    """

    def train_step(state: TrainState, batch: dict[str, jax.Array]) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step) if model.draws else None

        def forward(
            params: ArrayTree, rows: gradients.Rows, key: jax.Array | None
        ) -> tuple[GaitOutput, ArrayTree]:
            module = model.merge(params, state.batch_stats, remat=remat, frozen=freeze_batch_norm)
            frames, ids, segments = (
                as_models_take(rows["frames"], one),
                rows["segment_ids"],
                rows["labels"].shape[1],
            )
            drawn = {} if key is None else {"key": key}
            output = module(frames, ids, num_segments=segments, train=True, **drawn)
            return output, nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))

        if chunks == 1:
            found = gradients.of_batch(forward, losses, state.params, batch, key)
        else:
            found = gradients.of_chunks(forward, losses, state.params, state.batch_stats, batch, key, chunks)
        updates, opt_state = optimizer.update(found.params, state.opt_state, state.params)
        metrics = found.metrics | {
            "gradient_norm": norm(found.params),
            "sequences": (batch["labels"] >= 0).sum(),
            "frames": (batch["segment_ids"] >= 0).sum(),
        }
        params = optax.apply_updates(state.params, updates)
        updated = dataclasses.replace(
            state, step=state.step + 1, params=params, batch_stats=found.batch_stats, opt_state=opt_state
        )
        return updated, jax.tree.map(jnp.asarray, metrics)

    return train_step
