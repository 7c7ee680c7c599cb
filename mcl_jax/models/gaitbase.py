"""GaitBase (Fan et al. 2023, OpenGait, arXiv:2211.06597): a ResNet-9 over frames, pooled over time.

OpenGait's baseline of the competition HID is the same with plain convolutions in place of the ResNet.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, UInt8

from mcl_jax.errors import ConfigError
from mcl_jax.models.base import FRAME_SHAPE, GaitModule, GaitOutput
from mcl_jax.models.layers import (
    CLASSIFIER,
    BasicBlock,
    ConvBN,
    PartHead,
    check_bins,
    to_unit_range,
)
from mcl_jax.models.plain import plain_stages
from mcl_jax.ops.convolution import map_images
from mcl_jax.ops.pooling import max_pool_3x3
from mcl_jax.utils.signatures import PositiveInt, Sizes
from mcl_jax.utils.strips import Strip, equal_strips

PLAIN = "plain"
"""Value of `backbone` for plain convolutions."""

POOLINGS = 3
"""Number of the plain backbone's stages that end with pooling."""

_PLAIN_FRAMES = (128, 88)  # 44 columns cannot be halved three times
_RESNET_ALONE = {"layers": (1, 1, 1, 1), "strides": (1, 2, 2, 1), "max_pool": False}


class GaitBase(GaitModule):
    """Frames to part embeddings and class logits; the embedding is the output of the separate FCs."""

    CLASSIFIER = CLASSIFIER
    ADDED: ClassVar = ("layers", "strides", "max_pool", "bins", "backbone")

    def __init__(
        self,
        *,
        channels: Annotated[Sequence[int], Sizes(4)] = (64, 128, 256, 512),
        embed_dim: PositiveInt = 256,
        layers: Annotated[Sequence[int], Sizes(4, most=256)] = (1, 1, 1, 1),
        strides: Annotated[Sequence[int], Sizes(4)] = (1, 2, 2, 1),
        max_pool: bool = False,
        bins: Annotated[Sequence[int], Sizes()] = (16,),
        backbone: Literal["resnet9", "plain"] = "resnet9",
        num_classes: PositiveInt,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Builds the model.

        Args:
            channels: output channels of the four stages.
            embed_dim: channels of the embedding.
            layers: basic blocks of each of the four stages.
            strides: 1 or 2, in space, of the first block of each stage.
            max_pool: whether 3×3 max pooling with stride 2 comes before the first stage.
            bins: numbers of strips to cut a frame into; their sum is the number of parts.
            backbone: "resnet9", or "plain" for convolutions without batch normalisation and shortcuts, which
                take frames of 128×88 and have no `layers`, `strides` and `max_pool`.
            num_classes: subjects to classify in training.
            dtype: type the backbone computes in.
            rngs: source of the initial parameters.
        """
        self.dtype = dtype
        self.max_pool = max_pool
        self.is_plain = backbone == PLAIN
        if self.is_plain:
            self.plain = nnx.List(plain_stages(channels, poolings=POOLINGS, dtype=dtype, rngs=rngs))
        else:
            self._add_resnet(channels, layers, strides, rngs)
        self.head = PartHead(bins, channels[-1], embed_dim, num_classes, dtype=dtype, rngs=rngs)

    def _add_resnet(
        self, channels: Sequence[int], layers: Sequence[int], strides: Sequence[int], rngs: nnx.Rngs
    ) -> None:
        dtype = self.dtype
        self.stem = ConvBN(1, channels[0], dtype=dtype, rngs=rngs)
        inputs = (channels[0], *channels[:-1])
        self.stages = nnx.List(
            BasicBlock(before, after, stride=stride, dtype=dtype, rngs=rngs)
            for before, after, stride in zip(inputs, channels, strides, strict=True)
        )
        # First blocks stay in `stages`, where they were when each stage had only one block.
        self.rest = nnx.List(
            nnx.List(BasicBlock(after, after, stride=1, dtype=dtype, rngs=rngs) for _ in range(count - 1))
            for after, count in zip(channels, layers, strict=True)
        )

    @classmethod
    def check(cls, arguments: Mapping[str, Any]) -> None:
        """Checks that strides are 1 or 2, and that the bins divide the feature map."""
        if arguments["backbone"] == PLAIN:
            for key, default in _RESNET_ALONE.items():
                value = arguments[key]
                if (tuple(value) if isinstance(value, list) else value) != default:
                    raise ConfigError(f"model.{key}: is {value}; backbone plain has none, remove it")
            check_bins(arguments["bins"], halvings=POOLINGS, frame_shape=_PLAIN_FRAMES)
            return
        strides = tuple(arguments["strides"])
        if max(strides) > 2:
            raise ConfigError(f"model.strides: is {strides}; a stage has stride 1 or 2")
        check_bins(arguments["bins"], halvings=arguments["max_pool"] + strides.count(2))

    @classmethod
    def frame_shape(cls, arguments: Mapping[str, Any]) -> tuple[int, int]:
        """Returns rows and columns of the frames that the backbone takes."""
        return _PLAIN_FRAMES if arguments["backbone"] == PLAIN else FRAME_SHAPE

    @classmethod
    def part_strips(cls, arguments: Mapping[str, Any]) -> tuple[Strip, ...]:
        """Returns where each part of the embedding lies in a frame."""
        return equal_strips(arguments["bins"])

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
            frames: [rows, slots, height, width], uint8 or floats in [0, 1]; of the size `frame_shape`, or of
                another size that the bins divide.
            segment_ids: [rows, slots], the sequence within its row, −1 at empty slots.
            num_segments: how many sequences a row holds at most.
            train: whether batch normalisation uses, and records, the statistics of this batch.

        Returns:
            Embeddings [rows·num_segments, sum(bins), embed_dim] and logits [rows·num_segments, sum(bins),
            classes].
        """

        def features(images: Float[Array, "f h w 1"], mask: Bool[Array, " f"]) -> Float[Array, "f h2 w2 c"]:
            if self.is_plain:
                x = images
                for pair in self.plain:
                    x = self.run_block(pair, x)
                return x
            x = self.run_block(self.stem, images, method=ConvBN.activated, train=train, mask=mask)
            if self.max_pool:
                x = max_pool_3x3(x)
            for first, rest in zip(self.stages, self.rest, strict=True):
                for block in (first, *rest):
                    x = self.run_block(block, x, train=train, mask=mask[None])
            return x

        images = to_unit_range(frames, self.dtype)
        x = map_images(features, images, (segment_ids >= 0).reshape(-1), at_once=train or self.portable)
        return self.head(x, segment_ids, num_segments=num_segments, train=train)
