"""Programs that a config runs on GPUs: its training step and its embedding, with their shapes."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mcl_jax.build import build_guarded_step, build_optimization, build_state
from mcl_jax.config import frame_sampling
from mcl_jax.data.feed.loaders import train_row_shapes_of
from mcl_jax.data.feed.packing import RowShape, ordinary_test_rows
from mcl_jax.embed_step import embedding_program
from mcl_jax.errors import ConfigError
from mcl_jax.models.registry import Model, model_of
from mcl_jax.training.nonfinite import compile_guarded, start_counter

Program = tuple[jax.stages.Wrapped, tuple[Any, ...]]
"""A jitted function, and the shapes of its arguments."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to run a program.

    Attributes:
        precision: type that the backbone computes in.
        remat: whether activations are computed again for the gradient.
        slots: number of slots of each row; None for the largest rows of the config.
    """

    precision: str
    remat: bool = False
    slots: int | None = None


def training_step(config: ConfigDict, model: Model, mesh: Mesh, variant: Variant) -> Program:
    """Returns the guarded training step of a config, its rows split over a mesh.

    Raises:
        ConfigError: if the rows cannot be split evenly.
    """
    model = model_of(model.block, dtype=variant.precision)
    optimization = build_optimization(config)
    shape = largest_rows(config, model)
    rows, slots = shape.rows, variant.slots or shape.slots
    chunks = config.train.accumulate
    if rows % (mesh.size * chunks):
        of_chunks = f" in {chunks} chunks" if chunks > 1 else ""
        raise ConfigError(
            f"--devices: {rows} rows of a batch{of_chunks} cannot be split over {mesh.size} devices evenly"
        )
    step = build_guarded_step(config, model, optimization, remat=variant.remat)
    state = jax.eval_shape(lambda: build_state(config, *model.initial_arrays(0), optimization))
    batch = _batch(model, rows, slots) | {
        "labels": jax.ShapeDtypeStruct((rows, shape.segments), jnp.int32),
        "leave": jax.ShapeDtypeStruct((mesh.size,), jnp.bool_),
    }
    counter = jax.ShapeDtypeStruct((), start_counter().dtype)
    return compile_guarded(step, mesh, {}), (state, counter, batch)


def embedding(config: ConfigDict, model: Model, mesh: Mesh, precision: str) -> Program:
    """Returns the embedding of a config's usual test batch, with a row on each device of a mesh."""
    shape = ordinary_test_rows(config.eval.rows, config.eval.slots, mesh.size)
    return embedding_of(model, mesh, precision, shape)


def embedding_of(model: Model, mesh: Mesh, precision: str, shape: RowShape) -> Program:
    """Returns the embedding of rows of a shape."""
    model = model_of(model.block, dtype=precision)
    batch = _batch(model, shape.rows, shape.slots)
    shapes = (*model.shapes(), batch["frames"], batch["segment_ids"], shape.segments)
    return embedding_program(model, mesh, {}), shapes


def largest_rows(config: ConfigDict, model: Model) -> RowShape:
    """Returns the largest rows that training packs its clips into."""
    sizes = config.train.row_sizes
    return train_row_shapes_of(config.train.batch, frame_sampling(config), sizes, model.spacing)[-1]


def _batch(model: Model, rows: int, slots: int) -> dict[str, jax.ShapeDtypeStruct]:
    return {
        "frames": jax.ShapeDtypeStruct((rows, slots, *model.frame_shape), jnp.uint8),
        "segment_ids": jax.ShapeDtypeStruct((rows, slots), jnp.int32),
    }
