"""Base class of the gait models: the interface that training, testing and checkpoints rely on.

A new model is one file with a subclass of `GaitModule` and one entry in `mcl_jax.models.MODELS`.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

from flax import nnx
from jaxtyping import Array, Bool, Float, Int, UInt8

from mcl_jax.utils.pytrees import TreePath
from mcl_jax.utils.spacing import SIDE_BY_SIDE, Spacing

FRAME_SHAPE = (64, 44)
"""Rows and columns of the frames that models are trained and tested on."""


class GaitOutput(NamedTuple):
    """Output of a gait model for n = rows · num_segments sequences, row by row.

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
        SPACING: where sequences may begin in a row, for a model with a stride over time.
        ADDED: arguments that came after models had been trained without them. At their defaults they are left
            out of a model's digest, so that it stays what it was.
        DRAWS: whether it draws random numbers in training: then `__call__` takes a `key`, another one for
            each step, and draws nothing without it.
        remat: whether blocks keep no activations for the gradient, and compute them again (`run_block`).
        portable: whether no C++ kernel is used and nothing is done in chunks, so that any runtime can run the
            program; for testing only.
        whole_rows: whether each row is one whole sequence without an empty slot, of any length, as a program
            for other runtimes is given; for testing only.

    `remat`, `portable`, `whole_rows` and the `frozen` of batch norms are static attributes, which
    `Model.merge` sets on all modules that have them.
    """

    remat: bool = False
    portable: bool = False
    whole_rows: bool = False

    CLASSIFIER: ClassVar[TreePath | None] = None
    CHOICES: ClassVar[tuple[str, ...]] = ()
    SPACING: ClassVar[Spacing] = SIDE_BY_SIDE
    ADDED: ClassVar[tuple[str, ...]] = ()
    DRAWS: ClassVar[bool] = False

    @classmethod
    def check(cls, arguments: Mapping[str, Any]) -> None:
        """Checks the arguments together; each alone fits its annotation already. By default nothing.

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
                slot lies between two sequences, which begin where `SPACING` says.
            num_segments: how many sequences a row holds at most.
            train: whether batch normalisation uses, and records, the statistics of this batch.
        """
        raise NotImplementedError

    def run_block(
        self, block: nnx.Module, x: Array, *, method: Callable[..., Array] | None = None, **settings: Any
    ) -> Any:
        """Returns `block(x, **settings)`, computed again for the gradient where `remat` asks for it.

        It saves memory of the training step for time: each block runs forward twice. The gradient is the
        same, and batch statistics are recorded once (Chen et al. 2016, "Training Deep Nets with Sublinear
        Memory Cost", arXiv:1604.06174).

        Args:
            block: a part of this model; it may record batch statistics.
            x: the activations it starts from, which are kept.
            method: of the block's class, to call in place of the block itself.
            settings: what else it takes.
        """
        function = method or type(block).__call__

        def run(block: nnx.Module, x: Array) -> Array:
            return function(block, x, **settings)

        return (nnx.remat(run) if self.remat else run)(block, x)
