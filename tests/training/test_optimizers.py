"""Optimisers and schedule by hand; PyTorch's own are compared in tests/parity."""

import jax.numpy as jnp
import optax
import pytest

from mcl_jax.errors import ConfigError
from mcl_jax.training.optimizers import adam, cosine, multi_step, sgd


def test_a_milestone_is_the_first_step_at_the_lower_rate():
    schedule = multi_step(0.1, milestones=(2, 4), gamma=0.1)
    assert [float(schedule(step)) for step in range(6)] == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert float(multi_step(0.5)(99)) == 0.5


def test_a_cosine_rises_and_falls_to_nothing():
    schedule = cosine(0.1, steps=10, warmup=2)
    rates = [float(schedule(step)) for step in (0, 1, 2, 6, 10, 11)]
    assert rates == pytest.approx([0.0, 0.05, 0.1, 0.05, 0.0, 0.0], abs=1e-8)
    assert float(cosine(0.1, steps=10)(0)) == pytest.approx(0.1)
    with pytest.raises(ConfigError, match=r"schedule.warmup: is 10"):
        cosine(0.1, steps=10, warmup=10)


def test_sgd_by_hand():
    optimizer = sgd(multi_step(0.1, milestones=(1,)), momentum=0.5, weight_decay=0.1)
    x = jnp.array(2.0)
    state = optimizer.init(x)
    # Gradient 1: buffer 1 + 0.1·2 = 1.2, x = 2 − 0.1·1.2 = 1.88.
    updates, state = optimizer.update(jnp.array(1.0), state, x)
    x = optax.apply_updates(x, updates)
    assert float(x) == pytest.approx(1.88)
    # Buffer 0.5·1.2 + 1 + 0.188 = 1.788 at the lower rate: x = 1.88 − 0.01·1.788.
    updates, state = optimizer.update(jnp.array(1.0), state, x)
    assert float(optax.apply_updates(x, updates)) == pytest.approx(1.86212)


def test_adam_moves_by_the_rate_at_first():
    optimizer = adam(multi_step(0.01), weight_decay=0.0)
    x = jnp.array([3.0, -4.0])
    updates, _ = optimizer.update(jnp.array([0.5, -20.0]), optimizer.init(x), x)
    assert updates.tolist() == pytest.approx([-0.01, 0.01], rel=1e-5)
