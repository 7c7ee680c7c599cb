"""Random draws of a model in training."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from mcl_jax.losses.total import complete_losses
from mcl_jax.models import MODELS, GaitModule, GaitOutput
from mcl_jax.models.layers import segments_present
from mcl_jax.models.registry import create_model
from mcl_jax.training.optimizers import multi_step, sgd
from mcl_jax.training.state import create_state
from mcl_jax.training.step import make_train_step


class Drawing(GaitModule):
    """Embeddings that are drawn."""

    DRAWS = True

    def __init__(self, *, dtype, rngs):
        self.scale = nnx.Param(jnp.ones(4))

    def __call__(self, frames, segment_ids, *, num_segments, train, key=None):
        count = len(frames) * num_segments
        draws = jnp.zeros((count, 1, 4)) if key is None else jax.random.normal(key, (count, 1, 4))
        return GaitOutput(self.scale[...] * draws, None, segments_present(segment_ids, num_segments))


def test_draws_depend_only_on_seed_and_step(monkeypatch):
    monkeypatch.setitem(MODELS, "drawing", Drawing)
    model, optimizer = create_model("drawing", {}, dtype="float32"), sgd(multi_step(0.0))
    losses = complete_losses({"triplet": {"margin": 5.0}})
    batch = {
        "frames": jnp.zeros((4, 1, 64, 44), jnp.uint8),
        "segment_ids": jnp.zeros((4, 1), jnp.int32),
        "labels": jnp.array([[0], [0], [1], [1]], jnp.int32),
    }
    step = jax.jit(make_train_step(model, optimizer, losses, seed=3))
    state = create_state(*model.initial_arrays(0), optimizer)
    after, metrics = step(state, batch)
    first, second = float(metrics["loss"]), float(step(after, batch)[1]["loss"])
    assert first != pytest.approx(second)
    resumed = dataclasses.replace(state, step=jnp.int32(1))
    assert float(step(resumed, batch)[1]["loss"]) == second
    other = jax.jit(make_train_step(model, optimizer, losses, seed=4))
    assert float(other(state, batch)[1]["loss"]) != pytest.approx(first)
