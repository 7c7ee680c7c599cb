"""GaitPockets: several GaitPockets that see the same walks, the parts of all of them side by side.

Ours. Networks that were trained on other people, or from other initial weights, err differently; a distance
that is the mean over the parts of all of them errs less. The members share nothing, so they can be trained
together as one model, or by themselves and then joined (scripts/pack_model.py).
"""

from collections.abc import Sequence
from typing import Annotated

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, UInt8

from mcl_jax.arguments import PositiveInt, Sizes
from mcl_jax.models.gaitpocket import GaitPocket
from mcl_jax.models.layers import CLASSIFIER
from mcl_jax.models.module import GaitModule, GaitOutput


class GaitPockets(GaitModule):
    """Frames to the part embeddings and class logits of all members, one after the other."""

    CLASSIFIER = CLASSIFIER

    def __init__(
        self,
        *,
        members: PositiveInt = 3,
        channels: Annotated[Sequence[int], Sizes(4)] = (8, 32, 32, 64),
        embed_dim: PositiveInt = 64,
        num_classes: PositiveInt,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Builds the model.

        Args:
            members: how many networks.
            channels: of each, as of GaitPocket.
            embed_dim: of each, as of GaitPocket.
            num_classes: subjects to classify in training.
            dtype: type the backbones compute in.
            rngs: source of the initial parameters, which are other ones for each member.
        """
        self.members = nnx.List(
            GaitPocket(
                channels=channels, embed_dim=embed_dim, num_classes=num_classes, dtype=dtype, rngs=rngs
            )
            for _ in range(members)
        )

    def __call__(
        self,
        frames: UInt8[Array, "r s 64 44"] | Float[Array, "r s 64 44"],
        segment_ids: Int[Array, "r s"],
        *,
        num_segments: int,
        train: bool,
    ) -> GaitOutput:
        """Embeds the sequences of packed rows, as GaitPocket does.

        Returns:
            Embeddings [rows·num_segments, members·16, embed_dim] and logits [.., members·16, classes].
        """
        outputs = [
            member(frames, segment_ids, num_segments=num_segments, train=train) for member in self.members
        ]
        embeddings = jnp.concatenate([output.embeddings for output in outputs], axis=1)
        logits = jnp.concatenate([output.logits for output in outputs if output.logits is not None], axis=1)
        return GaitOutput(embeddings, logits, outputs[0].present)
