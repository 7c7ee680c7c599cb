"""DeepGaitV2 as FoundationGait fine-tunes it: with a projector before the head, and trained on cut frames.

FoundationGait pre-trains a deeper DeepGaitV2 (Fan et al. 2023, arXiv:2303.03301) on many datasets. On one
of them, training goes on with its backbone and projector, and with a new head. This is what OpenGait calls
`FoundationGait_Scaling_Finetune`.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, Shaped, UInt8

from mcl_jax.errors import ConfigError
from mcl_jax.models.base import FRAME_SHAPE, GaitModule, GaitOutput
from mcl_jax.models.batch_norm import BatchNorm
from mcl_jax.models.deepgaitv2 import backbone
from mcl_jax.models.layers import (
    CLASSIFIER,
    BNNecks,
    ConvBN,
    SeparateFCs,
    check_bins,
    horizontal_pyramid_pool,
    l2_normalize,
    normalize_parts,
    segments_present,
    temporal_max,
    to_unit_range,
)
from mcl_jax.utils.signatures import PositiveInt, Sizes

SHRINKING = 4
"""Rows of a frame for each row of its features."""


class Projector(nnx.Module):
    """Two linear maps per part, each with a batch normalisation, and a ReLU between them."""

    def __init__(self, parts: int, features: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.fcs1 = SeparateFCs(parts, features, features, dtype=dtype, rngs=rngs)
        self.norm1 = BatchNorm(features * parts, rngs=rngs)
        self.fcs2 = SeparateFCs(parts, features, features, dtype=dtype, rngs=rngs)
        self.norm2 = BatchNorm(features * parts, rngs=rngs)

    def __call__(
        self, x: Float[Array, "n p c"], *, train: bool, mask: Bool[Array, " n"]
    ) -> Float[Array, "n p c"]:
        """Maps the features of the parts; mask is False for absent sequences."""
        x = jax.nn.relu(normalize_parts(self.norm1, self.fcs1(x), train=train, mask=mask))
        return normalize_parts(self.norm2, self.fcs2(x), train=train, mask=mask)


class Head(nnx.Module):
    """Maps projected parts, scaled to length 1, to embeddings and logits."""

    def __init__(
        self, parts: int, features: int, embed_dim: int, num_classes: int, *, dtype: DTypeLike, rngs: nnx.Rngs
    ):
        self.fcs = SeparateFCs(parts, features, embed_dim, dtype=dtype, rngs=rngs)
        self.necks = BNNecks(parts, embed_dim, num_classes, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "n p c"], *, train: bool, mask: Bool[Array, " n"]
    ) -> tuple[Float[Array, "n p d"], Float[Array, "n p k"]]:
        """Returns embeddings and logits; mask is False for absent sequences."""
        embeddings = self.fcs(l2_normalize(x, axis=-1))
        return embeddings, self.necks(embeddings, train=train, mask=mask)[1]


class FoundationGait(GaitModule):
    """Frames to part embeddings and class logits."""

    CLASSIFIER = CLASSIFIER
    CHOICES: ClassVar = ("crops",)

    def __init__(
        self,
        *,
        mode: Literal["2d", "3d", "p3d"] = "p3d",
        layers: Annotated[Sequence[int], Sizes(4, most=256)] = (1, 4, 8, 4),
        channels: Annotated[Sequence[int], Sizes(4)] = (64, 128, 256, 512),
        bins: Annotated[Sequence[int], Sizes()] = (16, 8, 4, 2, 1),
        embed_dim: PositiveInt = 256,
        crops: Annotated[Sequence[int], Sizes()] = (),
        num_classes: PositiveInt,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Builds the model.

        Args:
            mode: kind of block in stages 2 to 4; see `DeepGaitV2`.
            layers: number of blocks of each of the four stages.
            channels: output channels of the four stages.
            bins: numbers of strips of the horizontal pyramid.
            embed_dim: channels of the embedding.
            crops: numbers of strips that frames are cut into in training, one for each equal piece of a
                batch. The backbone sees each strip by itself. In the second half of a piece, the cuts are
                moved by half a strip. () for whole frames.
            num_classes: subjects to classify in training.
            dtype: type the backbone computes in.
            rngs: source of the initial parameters.
        """
        self.dtype, self.bins, self.crops = dtype, tuple(bins), tuple(crops)
        self.stem, stages = backbone(mode, layers, channels, dtype=dtype, rngs=rngs)
        self.stages = nnx.List(map(nnx.List, stages))
        parts, features = sum(bins), channels[3]
        self.projector = Projector(parts, features, dtype=dtype, rngs=rngs)
        self.head = Head(parts, features, embed_dim, num_classes, dtype=dtype, rngs=rngs)

    @classmethod
    def check(cls, arguments: Mapping[str, Any]) -> None:
        """Checks that bins and crops divide a frame."""
        check_bins(arguments["bins"], halvings=2)
        rows = FRAME_SHAPE[0] // (2 * SHRINKING)
        if any(rows % count for count in arguments["crops"]):
            raise ConfigError(
                f"model.crops: is {tuple(arguments['crops'])}; expected numbers that divide {rows}, so that "
                "half a strip is a whole number of rows of features"
            )

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
            frames: [rows, slots, height, width], uint8 or floats in [0, 1]; height 64.
            segment_ids: [rows, slots], the sequence within its row, −1 at empty slots; in modes 3d and p3d
                with at least one empty slot between two sequences.
            num_segments: how many sequences a row holds at most.
            train: whether frames are cut into strips, and batch normalisation uses, and records, the
                statistics of this batch.

        Returns:
            Embeddings [rows·num_segments, parts, embed_dim] and logits [rows·num_segments, parts, classes].

        Raises:
            ConfigError: if the batch cannot be cut into the pieces that `crops` asks for.
        """
        if train and self.crops:
            x = self._features_of_strips(frames, segment_ids)
        else:
            x = self._features(frames, segment_ids, train=train)
        x = x.reshape(-1, *x.shape[2:])
        pooled = temporal_max(x, segment_ids, num_segments, whole_rows=self.whole_rows)
        present = segments_present(segment_ids, num_segments)
        pooled = pooled.astype(self.projector.fcs1.kernel[...].dtype)
        projected = self.projector(horizontal_pyramid_pool(pooled, self.bins), train=train, mask=present)
        embeddings, logits = self.head(projected, train=train, mask=present)
        return GaitOutput(jnp.where(present[:, None, None], embeddings, 0), logits, present)

    def _features(
        self, frames: Shaped[Array, "r s h w"], ids: Int[Array, "r s"], *, train: bool
    ) -> Float[Array, "r s h2 w2 c"]:
        """Runs the backbone on frames, or strips of frames."""
        mask = ids >= 0
        images, flat = to_unit_range(frames, self.dtype), mask.reshape(-1)
        x = self.run_block(self.stem, images, method=ConvBN.activated, train=train, mask=flat)
        for stage in self.stages:
            for block in stage:
                x = self.run_block(block, x, train=train, mask=mask)
        return x.reshape(*ids.shape, *x.shape[1:])

    def _features_of_strips(
        self, frames: Shaped[Array, "r s h w"], ids: Int[Array, "r s"]
    ) -> Float[Array, "r s h2 w2 c"]:
        """Runs the backbone on the pieces of a batch, each cut into its number of strips."""
        pieces, rows = len(self.crops), len(ids)
        if rows % (2 * pieces):
            raise ConfigError(
                f"model.crops: {pieces} pieces with two halves each need a multiple of {2 * pieces} rows in "
                f"a batch, and it has {rows}; set train.batch"
            )
        cut = zip(jnp.split(frames, pieces), jnp.split(ids, pieces), self.crops, strict=True)
        return jnp.concatenate([self._features_of_piece(*piece) for piece in cut])

    def _features_of_piece(
        self, frames: Shaped[Array, "r s h w"], ids: Int[Array, "r s"], count: int
    ) -> Float[Array, "r s h2 w2 c"]:
        """Runs the backbone on strips: `count` a frame in the first half, one more in the second."""
        if count == 1:
            return self._features(frames, ids, train=True)
        half, moved_by = len(ids) // 2, frames.shape[2] // count // 2
        moved = jnp.pad(frames[half:], ((0, 0), (0, 0), (moved_by, moved_by), (0, 0)))
        strips = jnp.concatenate([_cut(frames[:half], count), _cut(moved, count + 1)])
        strip_ids = jnp.concatenate(
            [jnp.repeat(ids[:half], count, axis=0), jnp.repeat(ids[half:], count + 1, axis=0)]
        )
        # One pass for both halves: they share the statistics of batch normalisation, as in the reference.
        features = self._features(strips, strip_ids, train=True)
        first, second = _joined(features[: half * count], count), _joined(features[half * count :], count + 1)
        edge = moved_by // SHRINKING
        return jnp.concatenate([first, second[:, :, edge:-edge]])


def _cut(frames: Shaped[Array, "r s h w"], count: int) -> Shaped[Array, "m s h2 w"]:
    """Cuts frames into strips, each in a row of its own: [rows, s, h, w] → [rows·count, s, h/count, w]."""
    rows, slots, height, width = frames.shape
    cut = frames.reshape(rows, slots, count, height // count, width).swapaxes(1, 2)
    return cut.reshape(rows * count, slots, height // count, width)


def _joined(features: Float[Array, "m s h w c"], count: int) -> Float[Array, "r s h2 w c"]:
    """Puts the features of a frame's strips back on top of each other."""
    strips, slots, height, width, channels = features.shape
    x = features.reshape(strips // count, count, slots, height, width, channels).swapaxes(1, 2)
    return x.reshape(strips // count, slots, count * height, width, channels)
