"""Base class of the gait models: the interface that training, testing and checkpoints rely on.

A new model is one file with a subclass of `GaitModule` and one entry in `mcl_jax.models.MODELS`.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

from flax import nnx
from jaxtyping import Array, Bool, Float, Int, UInt8

from mcl_jax.utils.pytrees import TreePath
from mcl_jax.utils.spacing import SIDE_BY_SIDE, Spacing
from mcl_jax.utils.strips import Strip

FRAME_SHAPE = (64, 44)
"""Rows and columns of the frames that most models are trained and tested on."""


class GaitOutput(NamedTuple):
    """Output of a gait model for n = rows · num_segments sequences, row by row.

    Attributes:
        embeddings: [n, parts, channels]; zeros if a row holds fewer than `num_segments` sequences.
        logits: [n, parts, classes], or None for a model without a classifier.
        present: [n], whether the sequence exists.
    """

    embeddings: Float[Array, "n p c"]
    logits: Float[Array, "n p k"] | None
    present: Bool[Array, " n"]


class GaitModule(nnx.Module):
    """Base of the gait models.

    The constructor takes keyword arguments only. `dtype`, the type the backbone computes in, and `rngs`, the
    source of initial parameters, come from the program; every other argument is a key of the `model` block of
    a config, with the constructor's default, and is checked against its annotation (`utils.signatures`). A
    model with a classifier has an argument `num_classes`, without a default: 0 in a config stands for the
    number of training subjects.

    Attributes:
        CLASSIFIER: path of the one parameter whose shape depends on the number of classes; fine-tuning on
            other people leaves it out. None for a model without a classifier.
        CHOICES: arguments that choose an output without changing the arrays, so that a trained model can be
            used with other values of them.
        SPACING: the slots at which sequences may begin, for a model with a stride over time.
        ADDED: arguments that were added after models had been trained. At their defaults, a model's digest
            leaves them out, so that it stays the same.
        DRAWS: whether it draws random numbers in training. Then `__call__` takes a `key`, a new one for each
            step, and draws nothing without it.
        remat: whether blocks compute activations again for the gradient instead of keeping them
            (`run_block`).
        portable: whether no C++ kernel is used and nothing is done in chunks, so that any runtime can run the
            program; only for testing.
        whole_rows: whether each row is one whole sequence of any length without an empty slot, as in a
            program for other runtimes; only for testing.
        keeps_frames: whether the features of frames are kept where a maximum over time is taken of them
            (`layers.temporal_max`), to find which frames gave it; only for testing.

    `remat`, `portable`, `whole_rows`, `keeps_frames` and the `frozen` of batch norms are static attributes,
    which `Model.merge` sets on all modules that have them.
    """

    remat: bool = False
    portable: bool = False
    whole_rows: bool = False
    keeps_frames: bool = False

    CLASSIFIER: ClassVar[TreePath | None] = None
    CHOICES: ClassVar[tuple[str, ...]] = ()
    SPACING: ClassVar[Spacing] = SIDE_BY_SIDE
    ADDED: ClassVar[tuple[str, ...]] = ()
    DRAWS: ClassVar[bool] = False

    @classmethod
    def check(cls, arguments: Mapping[str, Any]) -> None:
        """Checks the arguments together; each one already fits its annotation. By default, checks nothing.

        Raises:
            ConfigError: naming the first invalid key.
        """
        del arguments

    @classmethod
    def frame_shape(cls, arguments: Mapping[str, Any]) -> tuple[int, int]:
        """Returns rows and columns of the frames that the model takes; by default, 64×44.

        Args:
            arguments: of the constructor.
        """
        del arguments
        return FRAME_SHAPE

    @classmethod
    def part_strips(cls, arguments: Mapping[str, Any]) -> tuple[Strip, ...]:
        """Returns where each part of the embedding lies in a frame; empty, as by default, if it is not known.

        Args:
            arguments: of the constructor.
        """
        del arguments
        return ()

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
            segment_ids: [rows, slots], the sequence within its row, −1 at empty slots. At least one empty
                slot separates two sequences; `SPACING` says where they may begin.
            num_segments: how many sequences a row holds at most.
            train: whether batch normalisation uses, and records, the statistics of this batch.
        """
        raise NotImplementedError

    def run_block(
        self, block: nnx.Module, x: Array, *, method: Callable[..., Array] | None = None, **settings: Any
    ) -> Any:
        """Returns `block(x, **settings)`; with `remat`, the gradient computes its activations again.

        This trades time for memory: each block runs forward twice. The gradient is the
        same, and batch statistics are recorded once (Chen et al. 2016, "Training Deep Nets with Sublinear
        Memory Cost", arXiv:1604.06174).

        Args:
            block: a part of this model; it may record batch statistics.
            x: its input, which is kept.
            method: method of the block's class to call instead of the block itself.
            settings: its other arguments.
        """
        function = method or type(block).__call__

        def run(block: nnx.Module, x: Array) -> Array:
            return function(block, x, **settings)

        return (nnx.remat(run) if self.remat else run)(block, x)
