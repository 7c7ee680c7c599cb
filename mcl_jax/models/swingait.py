"""SwinGait (Fan et al. 2023, arXiv:2303.03301): a few convolutions, then attention within shifted windows.

The convolutions are DeepGaitV2's first stages. After them a frame has 15 × 10 tokens, which attend to each
other within windows over time and space (Liu et al. 2022, CVPR, "Video Swin Transformer").
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from mcl_jax.errors import ConfigError
from mcl_jax.models.base import GaitModule, GaitOutput
from mcl_jax.models.deepgaitv2 import BlockP3D
from mcl_jax.models.initializers import conv_init
from mcl_jax.models.layers import (
    CLASSIFIER,
    BasicBlock,
    BNNecks,
    ConvBN,
    SeparateFCs,
    horizontal_pyramid_pool,
    segments_present,
    temporal_max,
    to_unit_range,
    zero_empty,
)
from mcl_jax.ops.convolution import convolve, precision_of
from mcl_jax.ops.shifted_windows import (
    POSITIONS,
    WINDOW,
    Members,
    cut_windows,
    join_windows,
    members_of,
    neighbours_in_space,
    position_index,
)
from mcl_jax.utils.signatures import PositiveInt, ShareBelowOne, Sizes
from mcl_jax.utils.spacing import Spacing
from mcl_jax.utils.strips import Strip, equal_strips

PATCH = 2
GRID = (15, 10)
"""Rows and columns of the tokens of a frame."""

HEAD_WIDTH = 16
MLP_FACTOR = 4
NORM_EPSILON = 1e-5
FAR_AWAY = -100.0  # added to the score of tokens rolled here from the opposite edge

# The reference cuts this normal distribution at 100 standard deviations, which it never reaches.
_normal = nnx.initializers.normal(0.02)


def _linear(
    features_in: int, features_out: int, *, bias: bool = True, dtype: DTypeLike, rngs: nnx.Rngs
) -> Any:
    return nnx.Linear(
        features_in,
        features_out,
        use_bias=bias,
        dtype=dtype,
        precision=precision_of(dtype),
        kernel_init=_normal,
        rngs=rngs,
    )


def _layer_norm(features: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> Any:
    return nnx.LayerNorm(features, epsilon=NORM_EPSILON, use_fast_variance=False, dtype=dtype, rngs=rngs)


def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns x times the standard normal probability of a value below x."""
    return 0.5 * x * (1 + jax.lax.erf(x * np.sqrt(0.5).astype(x.dtype)))


def resized(x: Float[Array, "n h w c"], size: tuple[int, int]) -> Float[Array, "n h2 w2 c"]:
    """Interpolates linearly between rows and columns; the first and the last stay in place."""
    rows, columns = (
        _interpolation(before, after).astype(x.dtype)
        for before, after in zip(x.shape[1:3], size, strict=True)
    )
    precision = precision_of(x.dtype)
    x = jnp.einsum("ih,nhwc->niwc", rows, x, precision=precision)
    return jnp.einsum("jw,niwc->nijc", columns, x, precision=precision)


def _interpolation(before: int, after: int) -> Float[np.ndarray, "after before"]:
    places = np.arange(after) * ((before - 1) / (after - 1))
    return np.maximum(1 - np.abs(places[:, None] - np.arange(before)), 0)


class Tokens(nnx.Module):
    """Makes one token from each 2×2 square, by a linear map and a layer norm."""

    def __init__(self, features_in: int, features_out: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.dtype = dtype
        shape = (1, PATCH, PATCH, features_in, features_out)
        self.kernel = nnx.Param(conv_init(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(features_out, jnp.float32))
        self.norm = _layer_norm(features_out, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 d"]:
        """Maps frames to tokens."""
        x = resized(x.astype(self.dtype), (PATCH * GRID[0], PATCH * GRID[1]))
        channels = x.shape[-1]
        x = x.reshape(x.shape[0], GRID[0], PATCH, GRID[1], PATCH, channels).transpose(0, 1, 3, 2, 4, 5)
        x = x.reshape(x.shape[0], *GRID, PATCH * PATCH * channels)
        kernel, bias = self.kernel[...].astype(self.dtype), self.bias[...].astype(self.dtype)
        y = jnp.matmul(x, kernel.reshape(x.shape[-1], -1), precision=precision_of(self.dtype))
        return self.norm(y + bias)


class Attention(nnx.Module):
    """Attention between the tokens of a window, with a bias for their relative position."""

    portable: bool = False  # see `GaitModule`

    def __init__(self, features: int, *, shifted: bool, dtype: DTypeLike, rngs: nnx.Rngs):
        self.shifted, self.dtype = shifted, dtype
        self.heads = features // HEAD_WIDTH
        self.table = nnx.Param(_normal(rngs.params(), (POSITIONS, self.heads), jnp.float32))
        self.qkv = _linear(features, 3 * features, dtype=dtype, rngs=rngs)
        self.out = _linear(features, features, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "r s h w c"], members: Members) -> Float[Array, "r s h w c"]:
        """Maps rows of slots; empty slots must be zero, and their output is meaningless."""
        x = cut_windows(x, members, shifted=self.shifted)
        parts = self.qkv(x).reshape(*x.shape[:-1], 3, self.heads, HEAD_WIDTH)
        query, key, value = (parts[..., i, :, :] for i in range(3))
        precision = precision_of(self.dtype)
        scores = jnp.einsum("rtnqhd,rtnkhd->rtnhqk", query * HEAD_WIDTH**-0.5, key, precision=precision)
        weights = jax.nn.softmax(self._biased(scores, members), axis=-1).astype(self.dtype)
        y = jnp.einsum("rtnhqk,rtnkhd->rtnqhd", weights, value, precision=precision)
        y = self._projected(y.reshape(x.shape))
        return join_windows(y, members, GRID, shifted=self.shifted)

    def _projected(self, y: Float[Array, "r t n q c"]) -> Float[Array, "r t n q c"]:
        """Maps each token. As a convolution: no GPU program is found for a product fused with the heads."""
        images = y.reshape(-1, *y.shape[2:])
        kernel = self.out.kernel[...][None, None]
        mapped = convolve(images, kernel, portable=self.portable)
        return (mapped + self.out.bias[...].astype(self.dtype)).reshape(y.shape)

    def _biased(self, scores: Float[Array, "r t n e q k"], members: Members) -> Float[Array, "r t n e q k"]:
        """Adds the biases of relative positions, and masks tokens of other sequences."""
        bias = jnp.moveaxis(self.table[...][position_index()], -1, 0)
        scores = scores.astype(bias.dtype) + bias
        if self.shifted:
            apart = ~neighbours_in_space(GRID)
            scores = scores + np.where(apart, FAR_AWAY, 0).astype(bias.dtype)[:, None]
        sequence = members.shifted if self.shifted else members.straight
        sequence = jnp.repeat(sequence, WINDOW[1] * WINDOW[2], axis=2)
        same = sequence[:, :, :, None] == sequence[:, :, None, :]
        return jnp.where(same[:, :, None, None], scores, -jnp.inf)


class SwinBlock(nnx.Module):
    """Attention within windows, then an MLP per token, each with a layer norm and a skip connection."""

    def __init__(self, features: int, *, shifted: bool, dtype: DTypeLike, rngs: nnx.Rngs):
        self.norm1 = _layer_norm(features, dtype=dtype, rngs=rngs)
        self.attention = Attention(features, shifted=shifted, dtype=dtype, rngs=rngs)
        self.norm2 = _layer_norm(features, dtype=dtype, rngs=rngs)
        self.widen = _linear(features, MLP_FACTOR * features, dtype=dtype, rngs=rngs)
        self.narrow = _linear(MLP_FACTOR * features, features, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "r s h w c"], *, members: Members, factors: Float[Array, "2 r s"] | None
    ) -> Float[Array, "r s h w c"]:
        """Maps rows of slots; `factors` scale both branches, 0 where one is dropped; None for 1."""
        # The reference fills up a sequence's last window with zeros after this norm, and attends to them.
        y = self.attention(zero_empty(self.norm1(x), members.present), members)
        x = x + (y if factors is None else _times(y, factors[0]))
        y = self.narrow(gelu(self.widen(self.norm2(x))))
        return x + (y if factors is None else _times(y, factors[1]))


def _times(y: Float[Array, "r s h w c"], factor: Float[Array, "r s"]) -> Float[Array, "r s h w c"]:
    return y * factor[:, :, None, None, None].astype(y.dtype)


class Widening(nnx.Module):
    """A layer norm and a linear map to more channels, between the two stages."""

    def __init__(self, features_in: int, features_out: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.norm = _layer_norm(features_in, dtype=dtype, rngs=rngs)
        self.linear = _linear(features_in, features_out, bias=False, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "... c"]) -> Float[Array, "... d"]:
        """Maps tokens."""
        return self.linear(self.norm(x))


class SwinHead(nnx.Module):
    """Maps pooled rows to embeddings and logits; computes one more part than it returns.

    The reference has matrices for 16 parts but only 15 rows, so the last row is used twice. Its second result
    is cut off, but still counts in the statistics of batch normalisation.
    """

    def __init__(
        self, parts: int, features: int, embed_dim: int, num_classes: int, *, dtype: DTypeLike, rngs: nnx.Rngs
    ):
        self.parts = parts
        self.fcs = SeparateFCs(parts + 1, features, embed_dim, dtype=dtype, rngs=rngs)
        self.necks = BNNecks(parts + 1, embed_dim, num_classes, dtype=dtype, rngs=rngs)

    def __call__(
        self, pooled: Float[Array, "n h w c"], present: Bool[Array, " n"], *, train: bool
    ) -> tuple[Float[Array, "n p d"], Float[Array, "n p k"]]:
        """Maps [n, h, w, features] to embeddings and logits; `present` is False for absent sequences."""
        x = horizontal_pyramid_pool(pooled.astype(self.fcs.kernel[...].dtype), (self.parts,))
        x = jnp.concatenate([x, jax.lax.stop_gradient(x[:, -1:])], axis=1)
        embeddings = self.fcs(x)
        _, logits = self.necks(embeddings, train=train, mask=present)
        return embeddings[:, :-1], logits[:, :-1]


class SwinGait(GaitModule):
    """Frames to part embeddings and class logits."""

    CLASSIFIER = CLASSIFIER
    CHOICES: ClassVar = ("drop_path",)
    SPACING = Spacing(multiple=WINDOW[0])
    DRAWS = True

    def __init__(
        self,
        *,
        layers: Annotated[Sequence[int], Sizes(4, most=256)] = (1, 4, 4, 2),
        channels: Annotated[Sequence[int], Sizes(2)] = (64, 128),
        widths: Annotated[Sequence[int], Sizes(2)] = (256, 512),
        parts: PositiveInt = GRID[0],
        drop_path: ShareBelowOne = 0.1,
        num_classes: PositiveInt,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Builds the model.

        Args:
            layers: number of blocks of the two convolution stages and of the two attention stages.
            channels: channels of the convolution stages; the second also convolves over time.
            widths: channels of the attention stages, 16 per head; the embedding has as many as the first.
            parts: number of strips of a frame.
            drop_path: share of the sequences for which training drops a branch of the last block; the
                share falls linearly to 0 at the first block.
            num_classes: subjects to classify in training.
            dtype: type the backbone computes in.
            rngs: source of the initial parameters.
        """
        self.dtype, self.drop_path = dtype, drop_path
        options: dict[str, Any] = {"dtype": dtype, "rngs": rngs}
        first, second = channels
        self.stem = ConvBN(1, first, **options)
        self.stages = nnx.List(
            nnx.List(
                kind(before if i == 0 else after, after, stride=stride if i == 0 else 1, **options)
                for i in range(count)
            )
            for kind, count, before, after, stride in (
                (BasicBlock, layers[0], first, first, 1),
                (BlockP3D, layers[1], first, second, 2),
            )
        )
        self.tokens = Tokens(second, widths[0], **options)
        self.windows = nnx.List(
            nnx.List(SwinBlock(width, shifted=i % 2 == 1, **options) for i in range(count))
            for width, count in zip(widths, layers[2:], strict=True)
        )
        self.widening = Widening(*widths, **options)
        self.norm = _layer_norm(widths[1], **options)
        self.head = SwinHead(parts, widths[1], widths[0], num_classes, **options)

    @classmethod
    def check(cls, arguments: Mapping[str, Any]) -> None:
        """Checks that widths divide into heads, and frames into parts."""
        widths, parts = tuple(arguments["widths"]), arguments["parts"]
        if any(width % HEAD_WIDTH for width in widths):
            raise ConfigError(f"model.widths: is {widths}; expected multiples of {HEAD_WIDTH}")
        if (GRID[0] * GRID[1]) % parts:
            raise ConfigError(
                f"model.parts: is {parts}; expected a number that divides the {GRID[0]} × {GRID[1]} tokens "
                "of a frame"
            )

    @classmethod
    def part_strips(cls, arguments: Mapping[str, Any]) -> tuple[Strip, ...]:
        """Returns where each part of the embedding lies in a frame."""
        return equal_strips((arguments["parts"],))

    def __call__(
        self,
        frames: UInt8[Array, "r s h w"] | Float[Array, "r s h w"],
        segment_ids: Int[Array, "r s"],
        *,
        num_segments: int,
        train: bool,
        key: Key[Array, ""] | None = None,
    ) -> GaitOutput:
        """Embeds the sequences of packed rows.

        Args:
            frames: [rows, slots, height, width], uint8 or floats in [0, 1].
            segment_ids: [rows, slots], the sequence within its row, −1 at empty slots. A sequence begins at a
                multiple of 3, with at least one empty slot before the next (`SPACING`).
            num_segments: how many sequences a row holds at most.
            train: whether batch normalisation uses, and records, the statistics of this batch.
            key: key for the numbers drawn in training; without it, no branch is dropped.

        Returns:
            Embeddings [rows·num_segments, parts, widths[0]] and logits [rows·num_segments, parts, classes].
        """
        mask = segment_ids >= 0
        images, flat = to_unit_range(frames, self.dtype), mask.reshape(-1)
        x = self.run_block(self.stem, images, method=ConvBN.activated, train=train, mask=flat)
        for stage in self.stages:
            for block in stage:
                x = self.run_block(block, x, train=train, mask=mask)
        x = self.run_block(self.tokens, x)
        x = x.reshape(*segment_ids.shape, *x.shape[1:])
        x, ids = _whole_windows(x, segment_ids)
        x = self._attended(x, ids, num_segments, key if train else None)
        pooled = temporal_max(x.reshape(-1, *x.shape[2:]), ids, num_segments, keeper=self)
        present = segments_present(segment_ids, num_segments)
        embeddings, logits = self.head(pooled, present, train=train)
        return GaitOutput(embeddings, logits, present)

    def _attended(
        self,
        x: Float[Array, "r s h w c"],
        ids: Int[Array, "r s"],
        num_segments: int,
        key: Key[Array, ""] | None,
    ) -> Float[Array, "r s h w d"]:
        """Runs both stages of attention."""
        members = members_of(ids)
        rates = iter(np.linspace(0, self.drop_path, sum(map(len, self.windows))))
        number = 0
        for i, stage in enumerate(self.windows):
            for block in stage:
                factors = None
                if key is not None and (rate := next(rates)) > 0:
                    factors = _drawn(jax.random.fold_in(key, number), rate, ids, num_segments)
                x = self.run_block(block, x, members=members, factors=factors)
                number += 1
            if i == 0:
                x = self.run_block(self.widening, x)
        return self.norm(x)


def _whole_windows(
    x: Float[Array, "r s h w c"], ids: Int[Array, "r s"]
) -> tuple[Float[Array, "r t h w c"], Int[Array, "r t"]]:
    """Adds empty slots up to a whole window, also if the number of slots is free."""
    slots = ids.shape[1]
    whole = (slots + WINDOW[0] - 1) // WINDOW[0] * WINDOW[0]
    x = jnp.pad(x, ((0, 0), (0, WINDOW[0] - 1), *((0, 0),) * 3))[:, :whole]
    return x, jnp.pad(ids, ((0, 0), (0, WINDOW[0] - 1)), constant_values=-1)[:, :whole]


def _drawn(
    key: Key[Array, ""], rate: float, ids: Int[Array, "r s"], num_segments: int
) -> Float[Array, "2 r s"]:
    """Draws a factor for each sequence and branch of a block: 0, or 1 / (1 − rate) to compensate."""
    # Each sequence has a key of its own, so that nothing depends on the number of rows: empty ones fill up a
    # batch to a multiple of the devices.
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(ids) * num_segments))
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, (2,)))(keys) / (1 - rate)
    kept = kept.T.reshape(2, len(ids), num_segments)
    slots = jnp.broadcast_to(jnp.maximum(ids, 0), (2, *ids.shape))
    return jnp.take_along_axis(kept, slots, axis=2)
