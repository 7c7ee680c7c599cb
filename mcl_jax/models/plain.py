"""OpenGait's backbone `Plain`: pairs of convolutions without batch normalisation, with pooling in between."""

from collections.abc import Sequence

from flax import nnx
from jax.typing import DTypeLike

from mcl_jax.models.layers import ConvPair


def plain_stages(
    channels: Sequence[int],
    *,
    poolings: int,
    strips: Sequence[int] | None = None,
    dtype: DTypeLike,
    rngs: nnx.Rngs,
) -> list[ConvPair]:
    """Returns stages of two convolutions each; the kernel of the first is 5×5, those of all others 3×3.

    Args:
        channels: output channels of each stage.
        poolings: how many of the first stages end with 2×2 max pooling.
        strips: number of strips into which the convolutions of each stage cut a frame; None for whole frames.
        dtype: type they compute in.
        rngs: source of the initial parameters.
    """
    inputs = (1, *channels[:-1])
    return [
        ConvPair(
            before,
            after,
            strips=count,
            first_kernel=3 if i else 5,
            pool=i < poolings,
            dtype=dtype,
            rngs=rngs,
        )
        for i, (before, after, count) in enumerate(
            zip(inputs, channels, strips or (1,) * len(channels), strict=True)
        )
    ]
