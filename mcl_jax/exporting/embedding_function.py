"""The function to export: maps the frames of one walk to its embedding, with the weights inside."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from mcl_jax.data.prepare.silhouette import SIZE
from mcl_jax.models.registry import Model
from mcl_jax.utils.pytrees import ArrayTree

FRAMES, EMBEDDING = "frames", "embedding"
"""Names of the input and of the output in a file."""

Program = Callable[[UInt8[Array, "s h w"]], Float[Array, "p c"]]


def embedding_program(model: Model, params: ArrayTree, batch_stats: ArrayTree) -> Program:
    """Returns the function from square frames uint8 [s, 64, 64] to the embedding float32 [parts, channels].

    It includes the preparation: it cuts columns off each side, 10 of 64, and scales 0…255 to 0…1. All frames
    count, whereas `Gait.embed` uses only the first 720.
    """
    params, batch_stats = jax.tree.map(jnp.asarray, (params, batch_stats))
    height, width = model.frame_shape
    columns = (height - width) // 2

    def program(frames: UInt8[Array, "s h w"]) -> Float[Array, "p c"]:
        walk = frames[None, :, :, columns:-columns]
        module = model.merge(params, batch_stats, portable=True, whole_rows=True)
        ids = jnp.zeros(walk.shape[:2], jnp.int32)
        output = module(walk, ids, num_segments=1, train=False)
        return output.embeddings[0].astype(jnp.float32)

    return program


def any_length(side: int = SIZE) -> jax.ShapeDtypeStruct:
    """Returns the input: square frames of `side` rows, with their number free."""
    (frames,) = jax.export.symbolic_shape(FRAMES)
    return jax.ShapeDtypeStruct((frames, side, side), jnp.uint8)
