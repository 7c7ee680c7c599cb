"""Weights averaged over training, by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcl_jax.training.averaging import averaging, share_kept
from mcl_jax.training.nonfinite import guarded
from mcl_jax.training.state import AveragedState, TrainState, start_average, without_average


def add_one(state, batch):
    """Adds 1 to the parameter and 10 to the statistic; the loss is that of the batch."""
    moved = {"params": {"x": state.params["x"] + 1}, "batch_stats": {"m": state.batch_stats["m"] + 10}}
    metrics = {"loss": batch["loss"], "gradient_norm": jnp.float32(1)}
    return dataclasses.replace(state, step=state.step + 1, **moved), metrics


@pytest.fixture
def state() -> AveragedState:
    arrays = {"x": jnp.zeros(2)}, {"m": jnp.full(1, 5.0)}
    return start_average(TrainState(jnp.int32(0), *arrays, {}))


def test_the_average_by_hand(state):
    step = jax.jit(averaging(add_one, 0.5))
    batch = {"loss": jnp.float32(1)}
    state, _ = step(state, batch)  # keeps (1 + 0) / (10 + 0): 0.1·0 + 0.9·1, and 0.1·5 + 0.9·15
    assert state.params["x"].tolist() == [1, 1]
    assert state.average["params"]["x"].tolist() == pytest.approx([0.9, 0.9])
    assert state.average["batch_stats"]["m"].tolist() == pytest.approx([14])
    state, _ = step(state, batch)  # keeps 2 / 11: (2·0.9 + 9·2) / 11, and (2·14 + 9·25) / 11
    assert state.average["params"]["x"].tolist() == pytest.approx([1.8, 1.8])
    assert state.average["batch_stats"]["m"].tolist() == pytest.approx([23])
    late = dataclasses.replace(state, step=jnp.int32(100))
    late, _ = step(late, batch)  # keeps 0.5, which is less than 101 / 110
    assert late.average["params"]["x"].tolist() == pytest.approx([2.4, 2.4])
    assert late.average["params"]["x"].dtype == jnp.float32


def test_the_decay_is_reached_from_below():
    kept = [float(share_kept(jnp.int32(t), 0.999)) for t in (0, 8, 8989, 8991, 10**6)]
    assert kept == pytest.approx([0.1, 0.5, 8990 / 8999, 0.999, 0.999], rel=1e-6)


def test_an_update_that_is_left_out_leaves_the_average(state):
    step = jax.jit(guarded(averaging(add_one, 0.5), 3))
    batch = {"loss": jnp.float32(1), "leave": jnp.zeros(1, bool)}
    before, left_out, _ = step(state, jnp.int32(0), batch)
    after, left_out, _ = step(before, left_out, batch | {"loss": jnp.float32(np.nan)})
    assert (int(left_out), int(after.step)) == (1, 2)
    for x, y in zip(jax.tree.leaves(before.average), jax.tree.leaves(after.average), strict=True):
        assert np.array_equal(x, y)


def test_a_state_that_is_donated_has_no_array_twice(state):
    whole = jax.jit(averaging(add_one, 0.5), donate_argnums=0)
    after, _ = whole(state, {"loss": jnp.float32(1)})
    assert type(without_average(after)) is TrainState
    with pytest.raises(TypeError, match="no averaged weights"):
        averaging(add_one, 0.5)(without_average(after), {"loss": jnp.float32(1)})
