"""GaitBase (Fan et al. 2023, OpenGait, arXiv:2211.06597): a ResNet-9 over frames, pooled over time."""

from collections.abc import Sequence
from typing import Annotated

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, UInt8

from mcl_jax.arguments import PositiveInt, Sizes
from mcl_jax.models.layers import (
    CLASSIFIER,
    BasicBlock,
    ConvBN,
    PartHead,
    to_unit_range,
)
from mcl_jax.models.module import GaitModule, GaitOutput
from mcl_jax.models.remat import run_block

PARTS = 16
STAGE_STRIDES = (1, 2, 2, 1)


class GaitBase(GaitModule):
    """Frames to part embeddings and class logits; the embedding is the output of the separate FCs."""

    CLASSIFIER = CLASSIFIER

    def __init__(
        self,
        *,
        channels: Annotated[Sequence[int], Sizes(4)] = (64, 128, 256, 512),
        embed_dim: PositiveInt = 256,
        num_classes: PositiveInt,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Builds the model.

        Args:
            channels: output channels of the four stages.
            embed_dim: channels of the embedding.
            num_classes: subjects to classify in training.
            dtype: type the backbone computes in.
            rngs: source of the initial parameters.
        """
        self.dtype = dtype
        self.stem = ConvBN(1, channels[0], dtype=dtype, rngs=rngs)
        inputs = (channels[0], *channels[:-1])
        self.stages = nnx.List(
            BasicBlock(before, after, stride=stride, dtype=dtype, rngs=rngs)
            for before, after, stride in zip(inputs, channels, STAGE_STRIDES, strict=True)
        )
        self.head = PartHead(PARTS, channels[-1], embed_dim, num_classes, rngs=rngs)

    def __call__(
        self,
        frames: UInt8[Array, "r s h w"] | Float[Array, "r s h w"],
        segment_ids: Int[Array, "r s"],
        *,
        num_segments: int,
        train: bool,
    ) -> GaitOutput:
        """Embeds the sequences of packed rows.

        Args:
            frames: [rows, slots, height, width], uint8 or floats in [0, 1]; height a multiple of 64.
            segment_ids: [rows, slots], the sequence within its row, −1 at empty slots.
            num_segments: how many sequences a row holds at most.
            train: whether batch normalisation uses, and records, the statistics of this batch.

        Returns:
            Embeddings [rows·num_segments, 16, embed_dim] and logits [rows·num_segments, 16, classes].
        """
        mask = segment_ids >= 0
        images, flat = to_unit_range(frames, self.dtype), mask.reshape(-1)
        x = run_block(self.stem, images, method=ConvBN.activated, train=train, mask=flat)
        for stage in self.stages:
            x = run_block(stage, x, train=train, mask=mask)
        return self.head(x, segment_ids, num_segments=num_segments, train=train)
