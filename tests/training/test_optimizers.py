"""Optimisers and schedules against hand-computed values; tests/parity compares them with PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mcl_jax.errors import ConfigError
from mcl_jax.training.optimizers import (
    OPTIMIZERS,
    adam,
    check_groups,
    cosine,
    multi_step,
    rate_of_group,
    sgd,
    stepped_cosine,
)


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


def test_a_stepped_cosine_is_swingaits_for_each_group():
    schedule = stepped_cosine(3e-4, steps=10_000)
    iterations = (0, 999, 1000, 2500, 5000, 9999, 10_000, 10_001)
    rates = [3e-4, 3e-4, 2.92658477e-4, 2.71352549e-4, 1.5e-4, 7.34152256e-6, 1e-6, 1e-6]
    assert [float(schedule(step)) for step in iterations] == pytest.approx(rates)
    backbone = [max(rate / 10, 1e-6) for rate in rates]
    assert [rate_of_group(schedule, step, 0.1) for step in iterations] == pytest.approx(backbone)
    assert rate_of_group(schedule, 9999, 0.0) == 0
    assert rate_of_group(multi_step(0.5), 3, 0.1) == pytest.approx(0.05)


@pytest.mark.parametrize("iteration", [0, 9999, 10_000])
def test_the_least_rate_of_a_stepped_cosine_is_kept_by_each_group(iteration):
    schedule = stepped_cosine(3e-4, steps=10_000)
    optimizer = adam(schedule, weight_decay=0.0, groups=(("^b", 0.1, 1.0), ("^c", 0.0, 1.0)))
    x = {name: jnp.float32(1) for name in "abc"}
    position = optax.ScaleByScheduleState(jnp.int32(iteration))
    state = jax.tree.map(
        lambda part: position if isinstance(part, optax.ScaleByScheduleState) else part,
        optimizer.init(x),
        is_leaf=lambda part: isinstance(part, optax.ScaleByScheduleState),
    )
    updates, state = optimizer.update(x, state, x)
    factors = {"a": 1.0, "b": 0.1, "c": 0.0}
    expected = {name: -rate_of_group(schedule, iteration, factor) for name, factor in factors.items()}
    assert {name: float(update) for name, update in updates.items()} == pytest.approx(expected, rel=1e-5)
    counts = [int(part.count) for part in state if isinstance(part, optax.ScaleByScheduleState)]
    assert counts == [iteration + 1] * 2


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


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_groups_by_name_are_pytorchs_parameter_groups(name):
    torch = pytest.importorskip("torch")  # the newest JAX is tested without it
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    groups = (("norm|bias", 1.0, 0.0), ("^stages/0", 0.1, 1.0), ("stages", 0.0, 1.0))
    ours = OPTIMIZERS[name](multi_step(0.01, milestones=(2,)), weight_decay=0.02, groups=groups)
    x = {
        "norm": {"scale": jnp.float32(1.5)},
        "stages": {0: {"kernel": jnp.float32(-2.0)}, 1: {"kernel": jnp.float32(0.7)}},
        "head": jnp.float32(3.0),
    }
    theirs = [torch.tensor(value, requires_grad=True) for value in (3.0, 1.5, -2.0)]
    options = {"momentum": 0.9} if name == "sgd" else {}
    optimizer = kinds[name](
        [
            {"params": theirs[:1], "lr": 0.01, "weight_decay": 0.02},
            {"params": theirs[1:2], "lr": 0.01, "weight_decay": 0.0},
            {"params": theirs[2:], "lr": 0.001, "weight_decay": 0.02},
        ],
        **options,
    )
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2])
    state = ours.init(x)
    for step in range(4):
        gradients = {
            "norm": {"scale": jnp.cos(x["norm"]["scale"] + step)},
            "stages": {i: {"kernel": jnp.cos(x["stages"][i]["kernel"] + step)} for i in (0, 1)},
            "head": jnp.cos(x["head"] + step),
        }
        updates, state = ours.update(gradients, state, x)
        x = optax.apply_updates(x, updates)
        for p in theirs:
            p.grad = torch.cos(p.detach() + step)
        optimizer.step()
        schedule.step()
    found = [x["head"], x["norm"]["scale"], x["stages"][0]["kernel"]]
    np.testing.assert_allclose(found, [p.item() for p in theirs], rtol=1e-6)
    assert x["stages"][1]["kernel"] == np.float32(0.7)  # its rate is 0


@pytest.mark.parametrize("groups", [(("norm", 1.0),), (("(", 1.0, 1.0),), (("norm", -1.0, 1.0),)])
def test_what_is_no_group_is_refused(groups):
    with pytest.raises(ConfigError, match=r"optimizer.groups: "):
        adam(multi_step(0.1), groups=groups)


def test_a_group_without_a_parameter_is_refused():
    params = {"stem": {"kernel": 1}, "head": {"kernel": 2, "bias": 3}}
    check_groups((("^stem/", 0.1, 1.0), ("kernel", 1.0, 0.0)), "toy", params)
    check_groups((), "toy", params)
    with pytest.raises(
        ConfigError, match=r"'steem' matches no parameter of toy .* such as head/bias, head/k"
    ):
        check_groups((("steem", 0.1, 1.0),), "toy", params)
    with pytest.raises(
        ConfigError, match=r"'kernel' matches no parameter of toy that the groups before it l"
    ):
        check_groups((("kernel|stem", 0.1, 1.0), ("kernel", 1.0, 0.0)), "toy", params)
    with pytest.raises(ConfigError, match="invalid pattern"):
        check_groups((("(", 0.1, 1.0),), "toy", params)
