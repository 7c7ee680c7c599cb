"""Several gait energy images and a small ResNet over them: a model for a few CPU cores.

The gait energy image (Han and Bhanu 2006, "Individual recognition using gait energy image") is the mean frame
of a walk. Here a small network first sorts every frame softly into `gates` kinds, at a quarter of its
resolution, and each kind has its own image. So broken frames need not spoil good ones. The images are folded
along their middle column, so that the walking direction matters little. The convolutions run once per walk,
not once per frame.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, UInt8

from mcl_jax.models.base import FRAME_SHAPE, GaitModule, GaitOutput
from mcl_jax.models.layers import (
    CLASSIFIER,
    BasicBlock,
    ConvBN,
    PartHead,
    segments_present,
    to_unit_range,
)
from mcl_jax.utils.signatures import PositiveInt, Sizes
from mcl_jax.utils.strips import Strip, equal_strips

PARTS = 16
HEIGHT, WIDTH = FRAME_SHAPE
STAGE_STRIDES = (1, 2, 1)
SORTING_CELL = 4  # rows and columns that are averaged for the sorting network
SORTING_UNITS = 48


class GaitEnergy(GaitModule):
    """Frames to part embeddings and class logits; the embedding is the output of the separate FCs."""

    CLASSIFIER = CLASSIFIER

    def __init__(
        self,
        *,
        channels: Annotated[Sequence[int], Sizes(3)] = (16, 32, 64),
        gates: PositiveInt = 8,
        embed_dim: PositiveInt = 64,
        num_classes: PositiveInt,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Builds the model.

        Args:
            channels: output channels of the three stages.
            gates: number of kinds of frames, each with its own energy image.
            embed_dim: channels of the embedding.
            num_classes: subjects to classify in training.
            dtype: type the backbone computes in.
            rngs: source of the initial parameters.
        """
        self.dtype = dtype
        cells = (HEIGHT // SORTING_CELL) * (WIDTH // SORTING_CELL)
        precision = lax.Precision.HIGHEST if dtype == jnp.float32 else None
        self.look = nnx.Linear(cells, SORTING_UNITS, dtype=dtype, precision=precision, rngs=rngs)
        self.sort = nnx.Linear(SORTING_UNITS, gates, dtype=dtype, precision=precision, rngs=rngs)
        self.stem = ConvBN(gates, channels[0], stride=2, dtype=dtype, rngs=rngs)
        inputs = (channels[0], *channels[:-1])
        self.stages = nnx.List(
            BasicBlock(before, after, stride=stride, dtype=dtype, rngs=rngs)
            for before, after, stride in zip(inputs, channels, STAGE_STRIDES, strict=True)
        )
        self.head = PartHead((PARTS,), channels[-1], embed_dim, num_classes, dtype=dtype, rngs=rngs)

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
            train: whether batch normalisation uses, and records, the statistics of this batch.

        Returns:
            Embeddings [rows·num_segments, 16, embed_dim] and logits [rows·num_segments, 16, classes].
        """
        present = segments_present(segment_ids, num_segments)
        x = self._energy_images(to_unit_range(frames, self.dtype), segment_ids, num_segments)
        x = jax.nn.relu(self.stem(x, train=train, mask=present))
        # From here on, each sequence is a single image.
        in_rows = present.reshape(-1, num_segments)
        for stage in self.stages:
            x = self.run_block(stage, x, train=train, mask=in_rows)
        own = jnp.where(in_rows, jnp.arange(num_segments), -1)
        return self.head(x, own, num_segments=num_segments, train=train)

    def _energy_images(
        self, frames: Float[Array, "f 64 44 1"], segment_ids: Int[Array, "r s"], num_segments: int
    ) -> Float[Array, "n 64 22 g"]:
        """Returns an energy image per kind: the mean of the frames, weighted by their kind, and folded."""
        rows, slots = segment_ids.shape
        cells = frames.reshape(rows * slots, HEIGHT // SORTING_CELL, SORTING_CELL, -1, SORTING_CELL)
        cells = cells.mean(axis=(2, 4)).reshape(rows * slots, -1)
        kinds = jax.nn.softmax(self.sort(jax.nn.relu(self.look(cells))), axis=-1)
        member = (segment_ids[:, :, None] == jnp.arange(num_segments)).astype(kinds.dtype)
        share = member / jnp.maximum(member.sum(axis=1, keepdims=True), 1)
        weights = jnp.einsum("rsk,rsg->rkgs", share, kinds.reshape(rows, slots, -1))
        images = jnp.einsum(
            "rkgs,rsd->rkgd", weights, frames.reshape(rows, slots, -1), precision=lax.Precision.HIGHEST
        )
        images = images.reshape(rows * num_segments, -1, HEIGHT, WIDTH)
        folded = 0.5 * (images + images[..., ::-1])[..., : WIDTH // 2]
        return jnp.moveaxis(folded, 1, -1)
