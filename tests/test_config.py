"""Every config builds its model at full size, and takes one training step at toy width."""

import importlib.util
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

from mcl_jax.config import base_config, frame_sampling, model_arguments, validate
from mcl_jax.data.feed.packing import train_row_shape
from mcl_jax.errors import ConfigError
from mcl_jax.models import MODELS
from mcl_jax.optim import make_optimizer, multi_step
from mcl_jax.train_state import create_model, create_state
from mcl_jax.train_step import LossSettings, make_train_step

FOLDER = Path(__file__).resolve().parents[1] / "configs"
RUNS = sorted(path.stem for path in FOLDER.glob("*.py"))

# REFERENCE figures: training subjects, and parameters in millions where they are published.
CLASSES = {"casiab": 74, "grew": 20_000, "gait3d": 3_000, "walkers": 100}
MILLIONS = {
    "casiab_mcl": 7.305,
    "casiab_triplet": 7.305,
    "casiab_gaitset": 2.595,
    "gait3d_gaitset": 2.595,
    "grew_gaitset": 6.314,
    "gait3d_mcl": 19.290,
    "gait3d_triplet": 19.290,
    "gait3d_deepgaitv2": 25.492,
    "gait3d_deepgaitv2_interval": 25.492,
}


@pytest.fixture
def compiled_quickly():
    """For tests that spend their time compiling."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def load(run: str) -> ConfigDict:
    spec = importlib.util.spec_from_file_location(run, FOLDER / f"{run}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert f"configs/{run}.py" in module.__doc__
    return module.get_config()


def test_every_run_of_the_published_tables_is_there():
    assert {r for r in RUNS if not r.startswith("walkers")} == set(MILLIONS) | {"grew_mcl", "grew_triplet"}


@pytest.mark.parametrize("run", RUNS)
def test_full_size(run):
    config = load(run)
    validate(config)
    arguments = model_arguments(config.model, CLASSES[config.data.dataset])
    model = nnx.eval_shape(lambda: MODELS[config.model.name](**arguments, rngs=nnx.Rngs(0)))
    count = sum(math.prod(p.shape) for p in jax.tree.leaves(nnx.state(model, nnx.Param)))
    if run in MILLIONS:
        assert count / 1e6 == pytest.approx(MILLIONS[run], abs=5e-4)


@pytest.mark.parametrize("run", RUNS)
def test_one_step_at_toy_width(run, compiled_quickly):
    config = load(run)
    with config.unlocked():
        config.model.channels = (2, 3, 4, 4)[: len(config.model.channels)]
        config.model.embed_dim, config.model.layers = 3, (1, 1, 1, 1)
    model = create_model(config.model.name, model_arguments(config.model, 4), dtype=config.train.precision)
    schedule = multi_step(config.optimizer.lr, config.optimizer.milestones, config.optimizer.gamma)
    optimizer = make_optimizer(
        config.optimizer.name,
        schedule,
        momentum=config.optimizer.momentum,
        weight_decay=config.optimizer.weight_decay,
    )
    state = create_state(*model.initial_arrays(0), optimizer)
    step = jax.jit(make_train_step(model, optimizer, LossSettings(**config.loss)))
    rng = np.random.default_rng(0)
    batch = {
        "frames": jnp.asarray(rng.integers(0, 256, (4, 2, 64, 44), np.uint8)),
        "segment_ids": jnp.zeros((4, 2), jnp.int32),
        "labels": jnp.array([[0], [0], [1], [2]], jnp.int32),
    }
    after, metrics = step(state, batch)
    assert jnp.isfinite(metrics["loss"])
    assert int(after.step) == 1
    assert metrics["sequences"] == 4
    assert metrics["frames"] == 8
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), state.params, after.params)
    assert all(jax.tree.leaves(moved))
    assert ("ce_loss" in metrics) == (config.loss.ce_weight > 0)


def test_what_the_published_runs_draw():
    table = {
        "casiab_mcl": ("fixed_unordered", (8, 16), 60_000),
        "gait3d_mcl": ("unfixed_unordered", (32, 4), 60_000),
        "grew_mcl": ("unfixed_unordered", (32, 4), 180_000),
        "gait3d_deepgaitv2": ("fixed_ordered", (32, 4), 60_000),
        "gait3d_deepgaitv2_interval": ("fixed_ordered", (32, 4), 60_000),
        "casiab_gaitset": ("fixed_unordered", (8, 16), 40_000),
        "grew_gaitset": ("fixed_unordered", (32, 4), 250_000),
        "gait3d_gaitset": ("fixed_unordered", (32, 4), 180_000),
    }
    for run, expected in table.items():
        config = load(run)
        assert (config.data.sampling.mode, config.train.batch, config.train.steps) == expected, run
    interval = frame_sampling(load("gait3d_deepgaitv2_interval"))
    assert (interval.skip, interval.min_rate, interval.max_rate) == (0, 1, 3)
    grew = frame_sampling(load("grew_mcl"))
    assert train_row_shape(128, grew.min_frames, grew.max_frames).rows == 16


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data.dataset", "casia", "data.dataset: no 'casia'; there are casiab, "),
        ("model.name", "gaitgl", "model.name: no 'gaitgl'"),
        ("model.channels", (64, 128), "model.channels: is .*; expected 4 positive whole numbers"),
        ("loss.metric", "arcface", "loss.metric: no 'arcface'"),
        ("loss.label_smoothing", 1.0, "loss.label_smoothing"),
        ("optimizer.lr", -0.1, "optimizer.lr: is -0.1"),
        ("optimizer.milestones", (0,), "optimizer.milestones"),
        ("train.batch", (8, 0), "train.batch"),
        ("train.precision", "float16", "train.precision: no 'float16'"),
        ("train.log_every", 0, "train.log_every: is 0; must be at least 1"),
        ("eval.metric", "l2", "eval.metric: no 'l2'"),
        ("eval.protocol", "grew", "eval.protocol: no 'grew'"),
        ("data.sampling.mode", "all", "data.sampling.mode: no mode 'all'"),
        ("data.augment", (("cut", 1.0), ("blur", 0.1)), "no transform 'blur'"),
        ("seed", -1, "seed: is -1"),
    ],
)
def test_values_that_cannot_work_are_named(key, value, message):
    config = base_config()
    config.update_from_flattened_dict({key: value})
    with pytest.raises(ConfigError, match=message):
        validate(config)


def test_gaitset_has_no_classifier():
    config = base_config()
    config.model.name, config.model.channels = "gaitset", (2, 3, 4)
    with pytest.raises(ConfigError, match="gaitset has no classifier; set it to 0"):
        validate(config)
