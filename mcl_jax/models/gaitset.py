"""GaitSet (Chao et al. 2019, arXiv:1811.06186): frames as an unordered set, with a global branch."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, UInt8

from mcl_jax.models.base import GaitModule, GaitOutput
from mcl_jax.models.layers import (
    ConvPair,
    SeparateFCs,
    check_bins,
    horizontal_pyramid_pool,
    segments_present,
    temporal_max,
    to_unit_range,
)
from mcl_jax.ops.convolution import map_images
from mcl_jax.utils.signatures import PositiveInt, Sizes
from mcl_jax.utils.strips import Strip, equal_strips


class GaitSet(GaitModule):
    """Frames to part embeddings. No batch norm and no classifier: trained only with a triplet loss."""

    ADDED: ClassVar = ("bins",)

    def __init__(
        self,
        *,
        channels: Annotated[Sequence[int], Sizes(3)] = (32, 64, 128),
        embed_dim: PositiveInt = 256,
        bins: Annotated[Sequence[int], Sizes()] = (16, 8, 4, 2, 1),
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Builds the model.

        Args:
            channels: output channels of the three blocks.
            embed_dim: channels of the embedding.
            bins: numbers of strips to cut a frame into; their sum is each branch's number of parts.
            dtype: type the convolutions compute in.
            rngs: source of the initial parameters.
        """
        c1, c2, c3 = channels
        self.dtype = dtype
        self.bins = tuple(bins)
        self.set1 = ConvPair(1, c1, first_kernel=5, pool=True, dtype=dtype, rngs=rngs)
        self.set2 = ConvPair(c1, c2, pool=True, dtype=dtype, rngs=rngs)
        self.set3 = ConvPair(c2, c3, pool=False, dtype=dtype, rngs=rngs)
        self.global2 = ConvPair(c1, c2, pool=True, dtype=dtype, rngs=rngs)
        self.global3 = ConvPair(c2, c3, pool=False, dtype=dtype, rngs=rngs)
        self.fcs = SeparateFCs(2 * sum(bins), c3, embed_dim, dtype=dtype, rngs=rngs)

    @classmethod
    def check(cls, arguments: Mapping[str, Any]) -> None:
        """Checks that the bins divide the feature map after two poolings."""
        check_bins(arguments["bins"], halvings=2)

    @classmethod
    def part_strips(cls, arguments: Mapping[str, Any]) -> tuple[Strip, ...]:
        """Returns where each part of the embedding lies in a frame."""
        counts = arguments["bins"]
        return equal_strips(counts, "frame") + equal_strips(counts, "global")

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
            segment_ids: [rows, slots], the sequence within its row, −1 at empty slots.
            num_segments: how many sequences a row holds at most.
            train: does not change the result; when testing on the CPU, frames go through in chunks.

        Returns:
            Embeddings [rows·num_segments, 2·sum(bins), embed_dim]: the parts of the frame branch, then those
            of the global branch. No logits.
        """

        def of_frames(pair: ConvPair, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c2"]:
            return map_images(lambda x: self.run_block(pair, x), x, at_once=train or self.portable)

        def of_walks(x: Float[Array, "n h w c"]) -> Float[Array, "m h w c"]:
            return temporal_max(x, segment_ids, num_segments, whole_rows=self.whole_rows)

        x = of_frames(self.set1, to_unit_range(frames, self.dtype))
        g = self.global2(of_walks(x))
        x = of_frames(self.set2, x)
        g = self.global3(g + of_walks(x))
        x = of_frames(self.set3, x)
        pooled = temporal_max(x, segment_ids, num_segments, whole_rows=self.whole_rows, keeper=self)
        g = g + pooled

        wide = self.fcs.kernel[...].dtype
        parts = [horizontal_pyramid_pool(branch.astype(wide), self.bins) for branch in (pooled, g)]
        embeddings = self.fcs(jnp.concatenate(parts, axis=1))
        return GaitOutput(embeddings, None, segments_present(segment_ids, num_segments))
