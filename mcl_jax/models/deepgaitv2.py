"""DeepGaitV2 (Fan et al. 2023, arXiv:2303.03301): a deep ResNet over single or neighbouring frames."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, UInt8

from mcl_jax.models.base import GaitModule, GaitOutput
from mcl_jax.models.initializers import conv_init
from mcl_jax.models.layers import (
    CLASSIFIER,
    BasicBlock,
    BatchNorm,
    ConvBN,
    PartHead,
    relu_of_sum,
    shortcut,
    to_unit_range,
    zero_empty,
)
from mcl_jax.ops.convolution import convolve, convolve_in_test, convolve_in_time
from mcl_jax.utils.signatures import PositiveInt, Sizes
from mcl_jax.utils.strips import Strip, equal_strips

PARTS = 16
STAGE_STRIDES = (1, 2, 2, 1)


class TemporalConv(nnx.Module):
    """A convolution over time and space; if it covers only time, its kernel is [time, 1, in, out]."""

    portable: bool = False  # see `GaitModule`

    def __init__(
        self,
        features_in: int,
        features_out: int,
        kernel: tuple[int, ...],
        *,
        stride: int,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        self.stride = stride
        self.dtype = dtype
        self.kernel = nnx.Param(conv_init(rngs.params(), (*kernel, features_in, features_out), jnp.float32))

    def __call__(self, x: Float[Array, "r s h w c"]) -> Float[Array, "r s h2 w2 d"]:
        """Maps rows of slots."""
        x, kernel = x.astype(self.dtype), self.kernel[...]
        if kernel.ndim == 5:
            return convolve_in_time(x, kernel, self.stride, portable=self.portable)
        # If it covers only time, it is a 2-D convolution over [slots, h·w], twice as fast on the CPU.
        return convolve(_flat(x), kernel, portable=self.portable).reshape(*x.shape[:-1], -1)

    def in_test(
        self,
        x: Float[Array, "r s h w c"],
        factor: Float[Array, " d"],
        bias: Float[Array, " d"],
        residual: Float[Array, "r s h2 w2 d"] | None,
    ) -> Float[Array, "r s h2 w2 d"]:
        """Returns ReLU(conv(x) · factor + bias + residual)."""
        x, kernel = x.astype(self.dtype), self.kernel[...] * factor
        if kernel.ndim == 5:
            y = convolve_in_time(x, kernel, self.stride, portable=self.portable) + bias.astype(self.dtype)
            return jax.nn.relu(y if residual is None else y + residual)
        flat = None if residual is None else _flat(residual)
        y = convolve_in_test(_flat(x), kernel, bias=bias, residual=flat, slope=0.0, portable=self.portable)
        return y.reshape(*x.shape[:-1], -1)


def _flat(x: Float[Array, "r s h w c"]) -> Float[Array, "r s h*w c"]:
    return x.reshape(*x.shape[:2], -1, x.shape[-1])


class TemporalConvBN(nnx.Module):
    """A bias-free convolution over slots and space, and the batch normalisation of its output.

    It is padded by half its kernel on all sides. If empty slots are zero (see `zero_empty`), and one of them
    separates two sequences, each sequence is padded in time as if it were alone.
    """

    def __init__(
        self,
        features_in: int,
        features_out: int,
        kernel: tuple[int, ...],
        *,
        stride: int = 1,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        self.conv = TemporalConv(features_in, features_out, kernel, stride=stride, dtype=dtype, rngs=rngs)
        self.norm = BatchNorm(features_out, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "f h w c"],
        residual: Float[Array, "f h2 w2 c2"] | None = None,
        *,
        train: bool,
        mask: Bool[Array, "r s"],
    ) -> Float[Array, "f h2 w2 c2"]:
        """Returns ReLU(BN(conv(x)) + residual).

        Args:
            x: [rows·slots, h, w, c], zeros at empty slots.
            residual: array to add before the activation; None for nothing.
            train: whether to use, and record, the statistics of this batch.
            mask: [rows, slots], False at empty slots.
        """
        x = x.reshape(*mask.shape, *x.shape[1:])
        if not train:
            rest = None if residual is None else residual.reshape(*mask.shape, *residual.shape[1:])
            y = self.conv.in_test(x, *self.norm.in_test(), rest)
            return y.reshape(-1, *y.shape[2:])
        y = self.conv(x)
        y = self.norm(y.reshape(-1, *y.shape[2:]), train=True, mask=mask.reshape(-1))
        return jax.nn.relu(y) if residual is None else relu_of_sum(y, residual)


class BlockP3D(nnx.Module):
    """The pseudo-3D residual block: 3×3 in space, 3 in time with a skip connection, 3×3 in space."""

    def __init__(self, features_in: int, features_out: int, *, stride: int, dtype: DTypeLike, rngs: nnx.Rngs):
        self.conv1 = ConvBN(features_in, features_out, stride=stride, dtype=dtype, rngs=rngs)
        self.temporal = TemporalConvBN(features_out, features_out, (3, 1), dtype=dtype, rngs=rngs)
        self.conv2 = ConvBN(features_out, features_out, dtype=dtype, rngs=rngs)
        self.shortcut = shortcut(features_in, features_out, stride=stride, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "f h w c"], *, train: bool, mask: Bool[Array, "r s"]
    ) -> Float[Array, "f h2 w2 c2"]:
        """Maps x [rows·slots, h, w, c]; mask [rows, slots] is False at empty slots."""
        flat = mask.reshape(-1)
        identity = x if self.shortcut is None else self.shortcut(x, train=train, mask=flat)
        y = zero_empty(self.conv1.activated(x, train=train, mask=flat), flat)
        y = self.temporal(y, y, train=train, mask=mask)
        return self.conv2.activated(y, identity, train=train, mask=flat)


class Block3D(nnx.Module):
    """The residual block of two 3×3×3 convolutions; the stride is in space only."""

    def __init__(self, features_in: int, features_out: int, *, stride: int, dtype: DTypeLike, rngs: nnx.Rngs):
        self.conv1 = TemporalConvBN(
            features_in, features_out, (3, 3, 3), stride=stride, dtype=dtype, rngs=rngs
        )
        self.conv2 = TemporalConvBN(features_out, features_out, (3, 3, 3), dtype=dtype, rngs=rngs)
        self.shortcut = shortcut(features_in, features_out, stride=stride, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "f h w c"], *, train: bool, mask: Bool[Array, "r s"]
    ) -> Float[Array, "f h2 w2 c2"]:
        """Maps x [rows·slots, h, w, c]; mask [rows, slots] is False at empty slots."""
        flat = mask.reshape(-1)
        x = zero_empty(x, flat)
        identity = x if self.shortcut is None else self.shortcut(x, train=train, mask=flat)
        y = zero_empty(self.conv1(x, train=train, mask=mask), flat)
        return self.conv2(y, identity, train=train, mask=mask)


BLOCKS: dict[str, type[BasicBlock | BlockP3D | Block3D]] = {"2d": BasicBlock, "p3d": BlockP3D, "3d": Block3D}


def backbone(
    mode: str, layers: Sequence[int], channels: Sequence[int], *, dtype: DTypeLike, rngs: nnx.Rngs
) -> tuple[ConvBN, list[list[nnx.Module]]]:
    """Builds the first convolution and the four stages of blocks.

    Args:
        mode: kind of block in stages 2 to 4, a key of `BLOCKS`.
        layers: number of blocks of each stage.
        channels: output channels of each stage.
        dtype: type they compute in.
        rngs: source of the initial parameters.

    Returns:
        The convolution, and the blocks of each stage.
    """
    stem = ConvBN(1, channels[0], dtype=dtype, rngs=rngs)
    stages: list[list[nnx.Module]] = []
    inputs = (channels[0], *channels[:-1])
    kinds = (BasicBlock, *3 * (BLOCKS[mode],))
    for kind, count, before, after, stride in zip(
        kinds, layers, inputs, channels, STAGE_STRIDES, strict=True
    ):
        first = kind(before, after, stride=stride, dtype=dtype, rngs=rngs)
        rest = [kind(after, after, stride=1, dtype=dtype, rngs=rngs) for _ in range(count - 1)]
        stages.append([first, *rest])
    return stem, stages


class DeepGaitV2(GaitModule):
    """Frames to part embeddings and class logits."""

    CLASSIFIER = CLASSIFIER
    CHOICES: ClassVar = ("use_emb2",)

    def __init__(
        self,
        *,
        mode: Literal["2d", "3d", "p3d"] = "p3d",
        layers: Annotated[Sequence[int], Sizes(4, most=256)] = (1, 4, 4, 1),
        channels: Annotated[Sequence[int], Sizes(4)] = (64, 128, 256, 512),
        num_classes: PositiveInt,
        use_emb2: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Builds the model.

        Args:
            mode: kind of block in stages 2 to 4, a key of `BLOCKS`; stage 1 always works per frame.
            layers: number of blocks of each of the four stages.
            channels: output channels of the four stages; the embedding has as many as the third.
            num_classes: subjects to classify in training.
            use_emb2: whether the embedding is the BNNeck feature, not the output of the separate FCs.
            dtype: type the backbone computes in.
            rngs: source of the initial parameters.
        """
        self.dtype = dtype
        self.stem, stages = backbone(mode, layers, channels, dtype=dtype, rngs=rngs)
        self.stages = nnx.List(map(nnx.List, stages))
        self.head = PartHead(
            (PARTS,), channels[3], channels[2], num_classes, use_emb2=use_emb2, dtype=dtype, rngs=rngs
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
            frames: [rows, slots, height, width], uint8 or floats in [0, 1]; height a multiple of 64.
            segment_ids: [rows, slots], the sequence within its row, −1 at empty slots; in modes 3d and p3d
                with at least one empty slot between two sequences.
            num_segments: how many sequences a row holds at most.
            train: whether batch normalisation uses, and records, the statistics of this batch.

        Returns:
            Embeddings [rows·num_segments, 16, channels[2]] and logits [rows·num_segments, 16, classes].
        """
        mask = segment_ids >= 0
        images, flat = to_unit_range(frames, self.dtype), mask.reshape(-1)
        x = self.run_block(self.stem, images, method=ConvBN.activated, train=train, mask=flat)
        for stage in self.stages:
            for block in stage:
                x = self.run_block(block, x, train=train, mask=mask)
        return self.head(x, segment_ids, num_segments=num_segments, train=train)
