"""GaitPart (Fan et al. 2020, CVPR, "GaitPart: Temporal Part-based Model for Gait Recognition").

Focal convolutions process each strip of a frame by itself. Every part of the body has its own short windows
over time ("micro-motion"), pooled by their maximum.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, UInt8

from mcl_jax.errors import ConfigError
from mcl_jax.models.base import FRAME_SHAPE, GaitModule, GaitOutput
from mcl_jax.models.initializers import part_conv_init
from mcl_jax.models.layers import (
    SeparateFCs,
    horizontal_pyramid_pool,
    leaky_relu,
    segments_present,
    temporal_max,
    to_unit_range,
)
from mcl_jax.models.plain import plain_stages
from mcl_jax.ops.convolution import map_images, precision_of
from mcl_jax.ops.time_windows import window_joined, window_max, window_mean
from mcl_jax.utils.signatures import PositiveInt, Sizes
from mcl_jax.utils.strips import Strip, equal_strips

PARTS = 16
POOLINGS = 2
SQUEEZE = 4


class PartConv(nnx.Module):
    """A bias-free convolution over time for each part, padded with zeros at a sequence's own borders."""

    def __init__(self, features_in: int, features_out: int, size: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.precision = precision_of(dtype)
        shape = (PARTS, size, features_in, features_out)
        self.kernel = nnx.Param(part_conv_init(rngs.params(), shape, jnp.float32))

    def __call__(
        self, x: Float[Array, "r s p c"], segment_ids: Int[Array, "r s"] | None
    ) -> Float[Array, "r s p d"]:
        """Maps rows of slots."""
        kernel = self.kernel[...]
        parts, size, _, features_out = kernel.shape
        joined = x if size == 1 else window_joined(x, segment_ids, size)
        flat = kernel.reshape(parts, -1, features_out)
        return jnp.einsum("rspc,pcd->rspd", joined, flat, precision=self.precision)


class MicroMotion(nnx.Module):
    """Features of a short window around each frame, weighted by an attention over time, part by part."""

    def __init__(
        self, features: int, window: int, attention_kernel: int, *, dtype: DTypeLike, rngs: nnx.Rngs
    ):
        self.window = window
        squeezed = features // SQUEEZE
        self.conv1 = PartConv(features, squeezed, 3, dtype=dtype, rngs=rngs)
        self.conv2 = PartConv(squeezed, features, attention_kernel, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "r s p c"], segment_ids: Int[Array, "r s"] | None
    ) -> Float[Array, "r s p c"]:
        """Maps rows of slots."""
        template = window_mean(x, segment_ids, self.window) + window_max(x, segment_ids, self.window)
        attention = self.conv2(leaky_relu(self.conv1(x, segment_ids)), segment_ids)
        return template * jax.nn.sigmoid(attention)


class GaitPart(GaitModule):
    """Frames to part embeddings. No batch norm and no classifier: trained only with a triplet loss."""

    def __init__(
        self,
        *,
        channels: Annotated[Sequence[int], Sizes()] = (32, 64, 128),
        strips: Annotated[Sequence[int], Sizes()] = (1, 4, 8),
        embed_dim: PositiveInt = 128,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Builds the model.

        Args:
            channels: output channels of each stage of two convolutions; the first two stages end with
                pooling.
            strips: number of strips into which the focal convolutions of each stage cut a frame; 1 is an
                ordinary convolution.
            embed_dim: channels of the embedding.
            dtype: type the convolutions over frames compute in.
            rngs: source of the initial parameters.
        """
        self.dtype = dtype
        stages = plain_stages(channels, poolings=POOLINGS, strips=strips, dtype=dtype, rngs=rngs)
        self.stages = nnx.List(stages)
        self.short = MicroMotion(channels[-1], 3, 1, dtype=dtype, rngs=rngs)
        self.long = MicroMotion(channels[-1], 5, 3, dtype=dtype, rngs=rngs)
        self.fcs = SeparateFCs(PARTS, channels[-1], embed_dim, dtype=dtype, rngs=rngs)

    @classmethod
    def check(cls, arguments: Mapping[str, Any]) -> None:
        """Checks that every stage can be cut into its strips, and that channels suffice for attention."""
        channels, strips = tuple(arguments["channels"]), tuple(arguments["strips"])
        if len(channels) <= POOLINGS:
            raise ConfigError(f"model.channels: is {channels}; expected more than {POOLINGS} stages")
        if channels[-1] < SQUEEZE:
            raise ConfigError(f"model.channels: is {channels}; the last must be at least {SQUEEZE}")
        if len(strips) != len(channels):
            raise ConfigError(f"model.strips: is {strips}; expected a number for each of {channels}")
        for i, count in enumerate(strips):
            height = FRAME_SHAPE[0] >> min(i, POOLINGS)
            if height % count:
                raise ConfigError(
                    f"model.strips: is {strips}; {count} does not divide the {height} rows of stage {i + 1}"
                )

    @classmethod
    def part_strips(cls, arguments: Mapping[str, Any]) -> tuple[Strip, ...]:
        """Returns where each part of the embedding lies in a frame."""
        del arguments
        return equal_strips((PARTS,))

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
            frames: [rows, slots, height, width], uint8 or floats in [0, 1]; height 64, width even in every
                halving.
            segment_ids: [rows, slots], the sequence within its row, −1 at empty slots. Windows over time end
                with the sequence, so sequences need no empty slot between them.
            num_segments: how many sequences a row holds at most.
            train: does not change the result; when testing on the CPU, frames go through in chunks.

        Returns:
            Embeddings [rows·num_segments, 16, embed_dim]. No logits.
        """

        def parts_of_frames(images: Float[Array, "f h w 1"]) -> Float[Array, "f p c"]:
            x = images
            for stage in self.stages:
                x = self.run_block(stage, x)
            return horizontal_pyramid_pool(x.astype(wide), (PARTS,))

        wide = self.fcs.kernel[...].dtype
        images = to_unit_range(frames, self.dtype)
        x = map_images(parts_of_frames, images, at_once=train or self.portable)
        x = x.reshape(*segment_ids.shape, *x.shape[1:])
        ids = None if self.whole_rows else segment_ids
        motion = self.short(x, ids) + self.long(x, ids)
        motion = motion.reshape(-1, *motion.shape[2:])
        pooled = temporal_max(motion, segment_ids, num_segments, whole_rows=self.whole_rows, keeper=self)
        return GaitOutput(self.fcs(pooled), None, segments_present(segment_ids, num_segments))
