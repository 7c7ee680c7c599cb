"""Embeds one batch: a pure function of parameters, batch statistics and batch."""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from mcl_jax.models.layers import WHITE, as_models_take
from mcl_jax.models.registry import Model
from mcl_jax.runtime.mesh import replicated, split_rows
from mcl_jax.utils.pytrees import ArrayTree


def embedding_program(model: Model, mesh: Mesh, compiler_options: dict[str, str]) -> jax.stages.Wrapped:
    """Returns a jitted function that embeds packed rows, which are split over the devices of a mesh.

    Args:
        model: structure of the model.
        mesh: mesh of the devices.
        compiler_options: options of `jax.jit`.

    Returns:
        A function of parameters, batch statistics, frames [rows, slots, h, w], segment ids [rows, slots] and,
        static, the number of segments in a row and the pixel value that the model sees as 1; it returns
        float32 [rows · segments, parts, channels].
    """
    whole, split = replicated(mesh), split_rows(mesh)

    @functools.partial(
        jax.jit,
        static_argnums=(4, 5),
        in_shardings=(whole, whole, split, split),
        out_shardings=split,
        compiler_options=compiler_options,
    )
    def embed(
        params: ArrayTree,
        batch_stats: ArrayTree,
        frames: jax.Array,
        segment_ids: jax.Array,
        num_segments: int,
        one: int = WHITE,
    ) -> jax.Array:
        module = model.merge(params, batch_stats)
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            output = module(as_models_take(frames, one), segment_ids, num_segments=num_segments, train=False)
        return output.embeddings.astype(jnp.float32)

    return embed
