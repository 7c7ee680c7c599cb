"""Describes a config before training: parameters, FLOPs and memory of its model and training step."""

import dataclasses
import itertools
import json
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from mcl_jax.build import (
    build_dataset,
    build_guarded_step,
    build_optimization,
    build_state,
    build_train_model,
)
from mcl_jax.config import frame_sampling, model_block
from mcl_jax.data.datasets import DATASETS
from mcl_jax.data.feed.loaders import train_row_shapes_of
from mcl_jax.data.feed.packing import RowShape
from mcl_jax.errors import ConfigError
from mcl_jax.gpu_check.cards import card as find_card
from mcl_jax.gpu_check.compiling import MISSING, is_installed
from mcl_jax.gpu_check.estimate import estimate, lines, tasks_of
from mcl_jax.models.registry import Model, model_of
from mcl_jax.runtime.settings import compiler_options
from mcl_jax.training.nonfinite import start_counter
from mcl_jax.utils.pytrees import count_numbers, flat_keys

_FRAMES = 30  # length of the sequence for which FLOPs are counted


def describe(config: ConfigDict) -> str:
    """Describes a config as text: its keys, and the resulting parameters, FLOPs and memory.

    Memory is that of a training step with the largest rows, compiled for one device of this machine, in both
    precisions, with and without `train.remat`; compiling takes as long as the first steps of four trainings.

    Args:
        config: a valid config.

    Raises:
        UserError: if the number of classes is unknown, or the data cannot be opened.
    """
    model = build_train_model(config, model_block(config), _training_subjects(config))
    shapes = train_row_shapes_of(
        config.train.batch, frame_sampling(config), config.train.row_sizes, model.spacing
    )
    largest, slots = shapes[-1], ", ".join(str(shape.slots) for shape in shapes)
    chunks = f", in {config.train.accumulate} chunks" if config.train.accumulate > 1 else ""
    params, _ = model.shapes()
    facts: dict[str, Any] = {
        "parameters": f"{count_numbers(params):,}",
        "classes": model.arguments.get("num_classes", "no classifier"),
        "FLOPs a frame": f"{_flops_of_a_frame(model):.3g} to embed a sequence of {_FRAMES}",
        "batch": f"{math.prod(config.train.batch)} sequences in {largest.rows} rows of {slots} frames of "
        f"{model.frame_shape[0]} × {model.frame_shape[1]}{chunks}",
    }
    for precision, remat in itertools.product(("float32", "bfloat16"), (False, True)):
        memory = memory_of_a_step(config, model_of(model.block, dtype=precision), largest, remat=remat)
        facts[f"memory in {precision}{', train.remat' if remat else ''}"] = _memory_line(memory)
    width = max(map(len, facts))
    lines = [f"{name:<{width}}  {value}" for name, value in facts.items()]
    keys = [f"--config.{key}={value}" for key, value in flat_keys(config).items()]
    return "\n".join([*keys, "", *lines])


def describe_on(config: ConfigDict, gpu: str, devices: int, *, as_json: bool = False) -> str:
    """Returns kernels, memory, FLOPs and minimum time of a config's programs on a GPU this machine lacks.

    Args:
        config: a valid config.
        gpu: name of the card; see `gpu_check.cards`.
        devices: number of cards.
        as_json: whether to return JSON instead of a table.

    Raises:
        UserError: if there is no such card, XLA's compiler for GPUs is not installed, or the number of
            classes is not known.
    """
    card = find_card(gpu)
    if devices < 1:
        raise ConfigError(f"--devices: is {devices}; must be at least 1")
    if not is_installed():
        raise ConfigError(MISSING)
    classes = _training_subjects(config) if "num_classes" in config.model else None
    estimates = [estimate(config, classes, card, devices, task) for task in tasks_of(config)]
    if as_json:
        figures = {"card": dataclasses.asdict(card), "devices": devices, "jax": jax.__version__}
        return json.dumps(figures | {"programs": [item.as_dict() for item in estimates]}, indent=1)
    return "\n".join(lines(card, devices, estimates))


def _training_subjects(config: ConfigDict) -> int:
    """Returns the number of training subjects: those in data.root, or those of the built-in split."""
    if "num_classes" not in config.model or config.model.num_classes:
        return config.model.get("num_classes", 0)
    if config.data.root:
        return len(build_dataset(config).train_split().subjects)
    rule = DATASETS[config.data.dataset].partition
    if rule is None:
        raise ConfigError(
            f"model.num_classes: is 0, and {config.data.dataset} has no built-in split; set it, or "
            "data.root and data.partition"
        )
    return len(rule.train)


def _flops_of_a_frame(model: Model) -> float:
    frames = jax.ShapeDtypeStruct((1, _FRAMES, *model.frame_shape), jnp.uint8)
    ids = jax.ShapeDtypeStruct((1, _FRAMES), jnp.int32)

    def embed(params: Any, batch_stats: Any, frames: jax.Array, ids: jax.Array) -> jax.Array:
        # Portable, because the CPU's own program has loops, whose body would be counted only once.
        module = model.merge(params, batch_stats, portable=True, whole_rows=True)
        return module(frames, ids, num_segments=1, train=False).embeddings

    cost = jax.jit(embed).lower(*model.shapes(), frames, ids).cost_analysis()
    return cost["flops"] / _FRAMES if cost else math.nan


class Memory(NamedTuple):
    """Bytes of a compiled training step.

    Attributes:
        activations: intermediate results.
        arguments: parameters, batch statistics, optimiser state, and the batch.
    """

    activations: int
    arguments: int


def memory_of_a_step(config: ConfigDict, model: Model, shape: RowShape, *, remat: bool) -> Memory | None:
    """Returns the memory of the training step (with its guards) compiled for one device of this machine.

    Args:
        config: has the losses and the optimiser.
        model: model to train.
        shape: shape of the rows of a batch.
        remat: see `train.remat`.

    Returns:
        None if the backend does not report it.
    """
    optimization = build_optimization(config)
    state = jax.eval_shape(lambda: build_state(config, *model.initial_arrays(0), optimization))
    batch = {
        "frames": jax.ShapeDtypeStruct((shape.rows, shape.slots, *model.frame_shape), jnp.uint8),
        "segment_ids": jax.ShapeDtypeStruct((shape.rows, shape.slots), jnp.int32),
        "labels": jax.ShapeDtypeStruct((shape.rows, shape.segments), jnp.int32),
        "leave": jax.ShapeDtypeStruct((1,), jnp.bool_),
    }
    step = jax.jit(
        build_guarded_step(config, model, optimization, remat=remat),
        donate_argnums=0,
        compiler_options=compiler_options(training=True),
    )
    analysis = step.lower(state, start_counter(), batch).compile().memory_analysis()
    if analysis is None:
        return None
    return Memory(analysis.temp_size_in_bytes, analysis.argument_size_in_bytes)


def _memory_line(memory: Memory | None) -> str:
    if memory is None:
        return "not reported by this backend"
    return (
        f"{memory.activations / 2**30:.2f} GiB of activations, "
        f"{memory.arguments / 2**30:.2f} GiB of state and batch, on one {jax.default_backend()}"
    )
