"""What every gait model is: the one protocol that training, testing and checkpoints rely on.

A new model is one file with a subclass of `GaitModule` and one entry in `mcl_jax.models.MODELS`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from flax import nnx
from jaxtyping import Array, Bool, Float, Int, UInt8

from mcl_jax.utils.pytrees import TreePath

FRAME_SHAPE = (64, 44)
"""Rows and columns of the frames that models are trained and tested on."""


class GaitOutput(NamedTuple):
    """What every gait model returns for n = rows · num_segments sequences, row by row.

    Attributes:
        embeddings: [n, parts, channels]; zeros where a row holds fewer than `num_segments` sequences.
        logits: [n, parts, classes], or None for a model without a classifier.
        present: [n], whether there is such a sequence.
    """

    embeddings: Float[Array, "n p c"]
    logits: Float[Array, "n p k"] | None
    present: Bool[Array, " n"]


class GaitModule(nnx.Module):
    """Base of the gait models.

    The constructor takes keyword arguments only. `dtype`, the type the backbone computes in, and `rngs`, the
    source of initial parameters, come from the program; every other argument is a key of the `model` block of
    a config, with the constructor's default, and is checked against its annotation (`utils.signatures`). A
    model with a classifier has an argument `num_classes`, without a default: where a config says 0, it is
    the number of training subjects.

    Attributes:
        CLASSIFIER: path of the one parameter whose shape depends on the number of classes, which fine-tuning
            on other people leaves out; None for a model without a classifier.
        CHOICES: arguments that choose what comes out of the same arrays, so that a trained model can be used
            with other values than it was trained with.
        ADDED: arguments that came after models had been trained without them. At their defaults they are left
            out of a model's digest, so that it stays what it was.
    """

    CLASSIFIER: ClassVar[TreePath | None] = None
    CHOICES: ClassVar[tuple[str, ...]] = ()
    ADDED: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def check(cls, arguments: Mapping[str, Any]) -> None:
        """Checks what all arguments must be together, each being what its annotation says: here, nothing.

        Raises:
            ConfigError: naming the first key that cannot work.
        """
        del arguments

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
            frames: [rows, slots, height, width], uint8 or floats in [0, 1].
            segment_ids: [rows, slots], the sequence within its row, −1 at empty slots; at least one empty
                slot lies between two sequences.
            num_segments: how many sequences a row holds at most.
            train: whether batch normalisation uses, and records, the statistics of this batch.
        """
        raise NotImplementedError
