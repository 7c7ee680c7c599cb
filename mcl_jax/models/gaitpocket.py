"""GaitPocket: a small network over single frames at half resolution, for a few CPU cores.

It was designed for this project and is not published. Two residual blocks process each frame by itself. Then
each row of the picture is pooled over the walk twice: by its maximum, and by a weighted mean with learned
weights for each frame and row, so that broken frames need not spoil good ones. One more block processes the
walk, and its rows are the parts. When testing, the embedding combines the walk and its mirror image, and is
whitened: scaled so that differences between walks of one person count little (`scripts/whitening.py`).
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, UInt8

from mcl_jax.models.base import GaitModule, GaitOutput
from mcl_jax.models.layers import (
    CLASSIFIER,
    BasicBlock,
    ConvBN,
    PartHead,
    l2_normalize,
    segments_present,
    temporal_max,
    to_unit_range,
)
from mcl_jax.utils.signatures import PositiveInt, Sizes
from mcl_jax.utils.strips import Strip, equal_strips

PARTS = 16


class GaitPocket(GaitModule):
    """Frames to part embeddings and class logits; when testing, parts have unit length."""

    CLASSIFIER = CLASSIFIER

    def __init__(
        self,
        *,
        channels: Annotated[Sequence[int], Sizes(4)] = (8, 32, 32, 64),
        embed_dim: PositiveInt = 64,
        num_classes: PositiveInt,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Builds the model.

        Args:
            channels: output channels of the first convolution, of the two blocks for frames and of the block
                for walks.
            embed_dim: channels of the embedding.
            num_classes: subjects to classify in training.
            dtype: type the backbone computes in.
            rngs: source of the initial parameters.
        """
        first, second, third, last = channels
        self.dtype = dtype
        self.stem = ConvBN(1, first, dtype=dtype, rngs=rngs)
        self.stages = nnx.List(
            [
                BasicBlock(first, second, stride=2, dtype=dtype, rngs=rngs),
                BasicBlock(second, third, stride=1, dtype=dtype, rngs=rngs),
            ]
        )
        # Zeros, so that all frames of a walk count equally at first.
        self.worth = nnx.Param(jnp.zeros(third, jnp.float32))
        self.mix = ConvBN(2 * third, last, (1, 1), dtype=dtype, rngs=rngs)
        self.walk_stage = BasicBlock(last, last, stride=1, dtype=dtype, rngs=rngs)
        self.head = PartHead((PARTS,), last, embed_dim, num_classes, dtype=dtype, rngs=rngs)
        self.whitening = Whitening(PARTS, embed_dim)

    @classmethod
    def part_strips(cls, arguments: Mapping[str, Any]) -> tuple[Strip, ...]:
        """Returns where each part of the embedding lies in a frame."""
        del arguments
        return equal_strips((PARTS,))

    def __call__(
        self,
        frames: UInt8[Array, "r s 64 44"] | Float[Array, "r s 64 44"],
        segment_ids: Int[Array, "r s"],
        *,
        num_segments: int,
        train: bool,
    ) -> GaitOutput:
        """Embeds the sequences of packed rows.

        Args:
            frames: [rows, slots, 64, 44], uint8 or floats in [0, 1].
            segment_ids: [rows, slots], the sequence within its row, −1 at empty slots.
            num_segments: how many sequences a row holds at most.
            train: whether batch normalisation uses, and records, the statistics of this batch, and the
                embedding is the output of the separate FCs.

        Returns:
            Embeddings [rows·num_segments, 16, embed_dim] and logits [rows·num_segments, 16, classes].
        """
        output = self._see(frames, segment_ids, num_segments=num_segments, train=train)
        if train:
            return output
        mirrored = self._see(jnp.flip(frames, -1), segment_ids, num_segments=num_segments, train=False)
        embeddings = self.whitening(output.embeddings, mirrored.embeddings)
        return output._replace(embeddings=jnp.where(output.present[:, None, None], embeddings, 0))

    def _see(self, frames: Array, segment_ids: Array, *, num_segments: int, train: bool) -> GaitOutput:
        """Returns the output for the frames, without a mirror image."""
        x = to_unit_range(frames, self.dtype)
        x = x.reshape(x.shape[0], 32, 2, 22, 2, 1).mean(axis=(2, 4))
        x = jax.nn.relu(self.stem(x, train=train, mask=segment_ids.reshape(-1) >= 0))
        for stage in self.stages:
            x = self.run_block(stage, x, train=train, mask=segment_ids >= 0)
        typical = self._weighted_mean(x, segment_ids, num_segments)
        strongest = temporal_max(x, segment_ids, num_segments, whole_rows=self.whole_rows, keeper=self)
        x = jnp.concatenate([typical, strongest], axis=-1)
        # From here on, each sequence is a single image.
        present = segments_present(segment_ids, num_segments)
        x = jax.nn.relu(self.mix(x, train=train, mask=present))
        in_rows = present.reshape(-1, num_segments)
        x = self.run_block(self.walk_stage, x, train=train, mask=in_rows)
        own = jnp.where(in_rows, jnp.arange(num_segments), -1)
        return self.head(x, own, num_segments=num_segments, train=train)

    def _weighted_mean(
        self, features: Float[Array, "f h w c"], segment_ids: Int[Array, "r s"], num_segments: int
    ) -> Float[Array, "n h w c"]:
        """Returns the weighted mean over each sequence, with separate weights for each row of the picture."""
        rows, slots = segment_ids.shape
        worth = (features.mean(axis=2).astype(jnp.float32) * self.worth[...]).sum(axis=-1)
        if self.whole_rows:
            worth = worth.reshape(rows, slots, -1)
            weights = jnp.exp(worth - worth.max(axis=1, keepdims=True))
            weights = (weights / weights.sum(axis=1, keepdims=True))[..., None, None].astype(features.dtype)
            return (features.reshape(rows, slots, *features.shape[1:]) * weights).sum(axis=1)
        member = (segment_ids[:, :, None] == jnp.arange(num_segments))[..., None]
        worth = jnp.where(member, worth.reshape(rows, slots, 1, -1), -jnp.inf)
        # An absent sequence has no frames: zeros instead of 0 / 0.
        worth = jnp.where(member.any(axis=1, keepdims=True), worth, 0)
        weights = jnp.where(member, jax.nn.softmax(worth, axis=1), 0).astype(features.dtype)
        mean = jnp.einsum(
            "rskh,rshwc->rkhwc",
            weights,
            features.reshape(rows, slots, *features.shape[1:]),
            precision=lax.Precision.HIGHEST,
        )
        return mean.reshape(rows * num_segments, *features.shape[1:])


class Whitening(nnx.Module):
    """Whitening computed after training: the mean of all embeddings, and a linear map for each part.

    Both are stored as batch statistics, because no gradient changes them. Their defaults are zeros and
    identity.
    """

    def __init__(self, parts: int, features: int):
        self.mean = nnx.BatchStat(jnp.zeros((parts, features), jnp.float32))
        self.map = nnx.BatchStat(jnp.broadcast_to(jnp.eye(features), (parts, features, features)))

    def __call__(
        self, embeddings: Float[Array, "n p c"], mirrored: Float[Array, "n p c"]
    ) -> Float[Array, "n p c"]:
        """Returns unit-length parts of walks and their mirror images combined."""
        both = l2_normalize(l2_normalize(embeddings, axis=-1) + l2_normalize(mirrored, axis=-1), axis=-1)
        mapped = jnp.einsum(
            "npc,pcd->npd", both - self.mean[...], self.map[...], precision=lax.Precision.HIGHEST
        )
        return l2_normalize(mapped, axis=-1)
