"""The function to export: maps the frames of one walk to its embedding, with the weights inside."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from mcl_jax.data.feed.augment import CUT_COLUMNS
from mcl_jax.data.prepare.silhouette import SIZE
from mcl_jax.models.registry import Model
from mcl_jax.utils.pytrees import ArrayTree

FRAMES, EMBEDDING = "frames", "embedding"
"""Names of the input and of the output in a file."""

Program = Callable[[UInt8[Array, "s h w"]], Float[Array, "p c"]]


def embedding_program(model: Model, params: ArrayTree, batch_stats: ArrayTree) -> Program:
    """Returns the function from frames uint8 [s, 64, 64] to the embedding float32 [parts, channels].

    It includes the preparation: it cuts 10 columns off each side and scales 0…255 to 0…1. All frames count,
    whereas `Gait.embed` uses only the first 720.
    """
    params, batch_stats = jax.tree.map(jnp.asarray, (params, batch_stats))

    def program(frames: UInt8[Array, "s h w"]) -> Float[Array, "p c"]:
        walk = frames[None, :, :, CUT_COLUMNS:-CUT_COLUMNS]
        module = model.merge(params, batch_stats, portable=True, whole_rows=True)
        ids = jnp.zeros(walk.shape[:2], jnp.int32)
        output = module(walk, ids, num_segments=1, train=False)
        return output.embeddings[0].astype(jnp.float32)

    return program


def any_length() -> jax.ShapeDtypeStruct:
    """Returns the input with a free number of frames."""
    (frames,) = jax.export.symbolic_shape(FRAMES)
    return jax.ShapeDtypeStruct((frames, SIZE, SIZE), jnp.uint8)
