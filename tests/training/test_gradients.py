"""The gradients of a batch that is taken in chunks are those of the whole batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mcl_jax.build import build_train_model
from mcl_jax.config import frame_sampling, load_config, model_block
from mcl_jax.data.feed.loaders import train_row_shapes_of
from mcl_jax.describe import memory_of_a_step
from mcl_jax.losses.total import complete_losses, total_loss
from mcl_jax.models.base import GaitModule, GaitOutput
from mcl_jax.models.batch_norm import BatchNorm
from mcl_jax.models.layers import temporal_max
from mcl_jax.models.registry import create_model
from mcl_jax.ops.per_device import rows_in_chunks, rows_of_chunks
from mcl_jax.training import gradients

SETTINGS = {
    "gaitset": {"channels": (2, 2, 3), "bins": (2, 1), "embed_dim": 3},
    "gaitbase": {"channels": (2, 2, 2, 2), "embed_dim": 3, "num_classes": 4, "bins": (2,)},
}
DISTANCES = complete_losses({"triplet": {"weight": 0.5}, "mcl": {"weight": 1.0}})
ALL = complete_losses({"triplet": {"weight": 0.5}, "mcl": {"weight": 1.0}, "cross_entropy": {"weight": 0.8}})


class Tiny(GaitModule):
    """A batch norm between two products, and a factor that may be drawn."""

    def __init__(self, rngs):
        draw = functools.partial(jax.random.normal, dtype=jnp.float64)
        self.kernel = nnx.Param(draw(rngs.params(), (64, 4)))
        self.classes = nnx.Param(draw(rngs.params(), (2, 4)))
        self.norm = BatchNorm(4, rngs=rngs)

    def __call__(self, frames, segment_ids, *, num_segments, train, key=None):
        images = frames.mean(axis=3, dtype=jnp.float64).reshape(-1, 64) / 255
        x = self.norm(images @ self.kernel[...], train=train, mask=(segment_ids >= 0).reshape(-1))
        x = temporal_max(x, segment_ids, num_segments).reshape(-1, 2, 2)
        if key is not None:
            x = x * jax.random.normal(key, x.shape, x.dtype)
        return GaitOutput(x, x @ self.classes[...], jnp.ones(len(x), bool))


def tiny():
    """Returns parameters, statistics, and a function as `gradients.Forward`, which may freeze the latter."""
    graphdef, *arrays = nnx.split(Tiny(nnx.Rngs(0)), nnx.Param, nnx.BatchStat)
    params, stats = (jax.tree.map(lambda x: x.astype(jnp.float64), nnx.to_pure_dict(tree)) for tree in arrays)

    def forward(params, rows, key, *, frozen=False):
        module = nnx.merge(graphdef, params, stats)
        module.norm.frozen = frozen
        output = module(rows["frames"], rows["segment_ids"], num_segments=2, train=True, key=key)
        return output, nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))

    return params, stats, forward


def make_batch(rows: int, slots: int = 5) -> dict[str, jax.Array]:
    """Two clips of random lengths in each row, of four subjects; one is missing."""
    rng = np.random.default_rng(0)
    ids = np.full((rows, slots), -1, np.int32)
    for row in ids:
        first = rng.integers(1, slots - 1)
        row[:first], row[first + 1 :] = 0, 1
    labels = np.arange(2 * rows, dtype=np.int32).reshape(rows, 2) // 2 % 4
    ids[1][ids[1] == 1], labels[1, 1] = -1, -1
    frames = rng.integers(0, 2, (rows, slots, 64, 44)).astype(np.uint8) * 255
    return {"frames": jnp.asarray(frames), "segment_ids": jnp.asarray(ids), "labels": jnp.asarray(labels)}


def assert_close(found, expected, most):
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.abs(np.asarray(x) - np.asarray(y)).max() <= most * max(np.abs(y).max(), 1e-3)


def test_gradients_of_chunks_are_those_of_the_batch_where_sequences_meet_in_the_loss_alone():
    with jax.enable_x64(True):
        params, batch_stats, forward = tiny()
        forward, batch = functools.partial(forward, frozen=True), make_batch(6)
        whole = jax.jit(lambda batch: gradients.of_batch(forward, ALL, params, batch, None))(batch)
        of_chunks = functools.partial(gradients.of_chunks, forward, ALL, params, batch_stats)
        found = jax.jit(lambda batch: of_chunks(batch, None, 3))(batch)
        check_equal_to_whole(found, whole, batch_stats)


@pytest.mark.slow
@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize(("name", "losses"), [("gaitset", DISTANCES), ("gaitbase", ALL)])
def test_so_they_are_for_whole_models(name, losses, remat):
    with jax.enable_x64(True):
        model = create_model(name, SETTINGS[name], dtype="float64")
        params, batch_stats = jax.tree.map(lambda x: x.astype(jnp.float64), model.initial_arrays(1))

        def forward(params, rows, key):
            module = model.merge(params, batch_stats, frozen=True, remat=remat)
            output = module(rows["frames"], rows["segment_ids"], num_segments=2, train=True)
            return output, nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))

        batch = make_batch(6)
        whole = jax.jit(lambda batch: gradients.of_batch(forward, losses, params, batch, None))(batch)
        of_chunks = functools.partial(gradients.of_chunks, forward, losses, params, batch_stats)
        found = jax.jit(lambda batch: of_chunks(batch, None, 3))(batch)
        check_equal_to_whole(found, whole, batch_stats)


def check_equal_to_whole(found, whole, batch_stats):
    assert float(whole.metrics["mcl/loss_num"]) > 0
    assert any(np.abs(x).max() > 1e-6 for x in jax.tree.leaves(whole.params))
    assert_close(found.params, whole.params, 1e-9)
    assert_close(found.metrics, whole.metrics, 1e-12)
    for x, y in zip(jax.tree.leaves(found.batch_stats), jax.tree.leaves(batch_stats), strict=True):
        assert np.array_equal(x, y)  # frozen


def test_with_statistics_and_draws_of_each_chunk_it_is_the_gradient_of_the_loss_over_all_outputs():
    """The reference differentiates all chunks at once, with all their activations in memory."""
    with jax.enable_x64(True):
        params, batch_stats, forward = tiny()
        batch, key = make_batch(4), jax.random.key(5)
        parts = [{name: rows[chunk::2] for name, rows in batch.items()} for chunk in (0, 1)]

        def loss_of(params):
            done = [forward(params, *each) for each in zip(parts, jax.random.split(key, 2), strict=True)]
            joined = [jnp.concatenate([output[i] for output, _ in done]) for i in (0, 1)]
            labels = jnp.concatenate([part["labels"].reshape(-1) for part in parts])
            total, _ = total_loss(GaitOutput(*joined, labels >= 0), labels, ALL)
            return total, [stats for _, stats in done]

        (loss, stats), expected = jax.jit(jax.value_and_grad(loss_of, has_aux=True))(params)
        of_chunks = functools.partial(gradients.of_chunks, forward, ALL, params, batch_stats)
        found = jax.jit(lambda batch: of_chunks(batch, key, 2))(batch)
        assert float(found.metrics["loss"]) == pytest.approx(float(loss), rel=1e-12)
        assert_close(found.params, expected, 1e-9)
        frames = [int((part["segment_ids"] >= 0).sum()) for part in parts]
        assert frames[0] != frames[1]
        mean = jax.tree.map(lambda a, b: (frames[0] * a + frames[1] * b) / sum(frames), *stats)
        assert_close(found.batch_stats, mean, 1e-12)


def test_chunks_are_every_so_many_rows_in_the_order_of_the_batch():
    x = jnp.arange(12).reshape(6, 2)
    parts = rows_in_chunks(x, 3)
    assert parts[1].tolist() == [[2, 3], [8, 9]]
    assert rows_of_chunks(parts).tolist() == x.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_chunks_share_the_memory_of_activations(precision):
    """By the compiled program; the loss and the state of a small model take little of it."""
    config = load_config("walkers_mcl")
    config.train.batch, config.data.sampling.frames, config.train.precision = (8, 4), 8, precision
    model = build_train_model(config, model_block(config), 100)
    memory = []
    for config.train.accumulate in (1, 4):
        shape = train_row_shapes_of(config.train.batch, frame_sampling(config), 1, model.spacing)[-1]
        memory.append(memory_of_a_step(config, model, shape, remat=False).activations)
    assert memory[1] < memory[0] / 3
