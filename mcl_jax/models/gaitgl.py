"""GaitGL (Lin, Zhang and Yu 2021, ICCV, arXiv:2011.01461): the whole frame and its strips, over time.

3-D convolutions process the whole frame and, with other weights, each strip by itself. On the way, every
three frames become one (local temporal aggregation). Rows are pooled by a generalised mean.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, UInt8

from mcl_jax.errors import ConfigError
from mcl_jax.models.base import GaitModule, GaitOutput
from mcl_jax.models.batch_norm import BatchNorm
from mcl_jax.models.initializers import conv_init
from mcl_jax.models.layers import (
    LEAKY_SLOPE,
    BNNecks,
    SeparateFCs,
    leaky_relu,
    segments_present,
    temporal_max,
    to_unit_range,
    zero_empty,
)
from mcl_jax.ops.convolution import convolve, convolve_in_time
from mcl_jax.ops.pooling import max_pool_2x2
from mcl_jax.utils.pytrees import TreePath
from mcl_jax.utils.signatures import PositiveInt, Sizes
from mcl_jax.utils.spacing import Spacing
from mcl_jax.utils.strips import Strip, equal_strips

PARTS = 64
STRIDE = 3  # of local temporal aggregation
SHORTEST = 4  # slots for repeating one or two frames: a a a, or a b a b
GEM_EPSILON = 1e-6
GEM_START = 6.5


class Conv3D(nnx.Module):
    """A bias-free 3×3×3 convolution of rows of slots, for each strip of the height by itself."""

    portable: bool = False  # see `GaitModule`

    def __init__(
        self, features_in: int, features_out: int, *, strips: int = 1, dtype: DTypeLike, rngs: nnx.Rngs
    ):
        self.strips, self.dtype = strips, dtype
        shape = (3, 3, 3, features_in, features_out)
        self.kernel = nnx.Param(conv_init(rngs.params(), shape, jnp.float32))

    def __call__(self, x: Float[Array, "r s h w c"]) -> Float[Array, "r s h w d"]:
        """Maps rows of slots; empty slots must be zero."""
        kernel = self.kernel[...]
        return convolve_in_time(x.astype(self.dtype), kernel, strips=self.strips, portable=self.portable)


class LocalTemporalAggregation(nnx.Module):
    """A convolution of 3 frames with stride 3 and without padding: every 3 slots become one."""

    portable: bool = False  # see `GaitModule`

    def __init__(self, features: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.dtype = dtype
        shape = (STRIDE, features, features)
        self.kernel = nnx.Param(conv_init(rngs.params(), shape, jnp.float32))

    def __call__(self, x: Float[Array, "r s h w c"]) -> Float[Array, "r t h w c"]:
        """Maps each window of a row to one slot; drops one or two slots left over at the end."""
        rows, slots, height, width, features = x.shape
        windows = slots // STRIDE
        x = x[:, : windows * STRIDE].astype(self.dtype)
        # The frames of a window become channels of one image, so this is a 1×1 convolution.
        x = jnp.moveaxis(x.reshape(rows, windows, STRIDE, height, width, features), 2, 4)
        images = x.reshape(rows * windows, height, width, STRIDE * features)
        kernel = self.kernel[...].reshape(1, 1, STRIDE * features, features)
        y = convolve(images, kernel, slope=LEAKY_SLOPE, portable=self.portable)
        return y.reshape(rows, windows, height, width, features)


class GLConv(nnx.Module):
    """A global convolution of the frame and a local one of its strips, added or stacked in height."""

    def __init__(
        self,
        features_in: int,
        features_out: int,
        *,
        strips: int,
        stacked: bool,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        self.stacked = stacked
        self.whole = Conv3D(features_in, features_out, dtype=dtype, rngs=rngs)
        self.local = Conv3D(features_in, features_out, strips=strips, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "r s h w c"], *, mask: Bool[Array, "r s"]
    ) -> Float[Array, "r s h2 w d"]:
        """Maps rows of slots; mask is False at empty slots."""
        x = zero_empty(x, mask)
        whole, local = leaky_relu(self.whole(x)), leaky_relu(self.local(x))
        return jnp.concatenate([whole, local], axis=2) if self.stacked else whole + local


class GeM(nnx.Module):
    """The generalised mean over the columns of each row: (mean of x^p)^(1/p), with a learned p."""

    def __init__(self) -> None:
        self.p = nnx.Param(jnp.full(1, GEM_START, jnp.float32))

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h c"]:
        """Pools x, after raising all values to at least `GEM_EPSILON`."""
        p = self.p[...]
        # x^p of the least x is 1e-39, which XLA makes zero and the gradient NaN. Logarithms avoid this.
        logs = jnp.log(jnp.maximum(x, GEM_EPSILON))
        return jnp.exp((jax.nn.logsumexp(p * logs, axis=2) - jnp.log(x.shape[2])) / p)


class NormHead(nnx.Module):
    """The head as published: the embedding is batch-normalised, and the logits are computed from it."""

    def __init__(self, features: int, num_classes: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.fcs = SeparateFCs(PARTS, features, features, dtype=dtype, rngs=rngs)
        self.norm = BatchNorm(features, rngs=rngs)
        self.classifier = SeparateFCs(PARTS, features, num_classes, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "n p c"], *, train: bool, mask: Bool[Array, " n"]
    ) -> tuple[Float[Array, "n p c"], Float[Array, "n p k"]]:
        """Returns embeddings and logits; mask is False where there is no sequence."""
        embeddings = self.norm(self.fcs(x), train=train, mask=mask)
        return embeddings, self.classifier(embeddings)


class NeckHead(nnx.Module):
    """The head with BNNecks: the embedding is the output of the separate FCs."""

    def __init__(self, features: int, num_classes: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.fcs = SeparateFCs(PARTS, features, features, dtype=dtype, rngs=rngs)
        self.classifier = BNNecks(PARTS, features, num_classes, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "n p c"], *, train: bool, mask: Bool[Array, " n"]
    ) -> tuple[Float[Array, "n p c"], Float[Array, "n p k"]]:
        """Returns embeddings and logits; mask is False where there is no sequence."""
        embeddings = self.fcs(x)
        return embeddings, self.classifier(embeddings, train=train, mask=mask)[1]


class GaitGL(GaitModule):
    """Frames to part embeddings and class logits.

    The small form has one convolution before local temporal aggregation and one global and local pair in each
    of three stages; the large form has two everywhere, and larger strips.
    """

    CLASSIFIER: ClassVar[TreePath] = ("head", "classifier", "kernel")
    SPACING = Spacing(multiple=STRIDE, least=SHORTEST)

    def __init__(
        self,
        *,
        form: Literal["small", "large"] = "small",
        channels: Annotated[Sequence[int], Sizes()] = (32, 64, 128),
        necks: bool = False,
        num_classes: PositiveInt,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Builds the model.

        Args:
            form: small, or large.
            channels: output channels of the convolutions before local temporal aggregation, and of the stages
                after it. In the small form, the last two stages share the last number.
            necks: whether BNNecks classify; then the embedding is their input.
            num_classes: subjects to classify in training.
            dtype: type the convolutions compute in.
            rngs: source of the initial parameters.
        """
        self.dtype = dtype
        first, *rest = channels
        in_stem, strips = (1, 8) if form == "small" else (2, 2)
        outputs = (*rest, rest[-1]) if form == "small" else rest
        self.stem = nnx.List(Conv3D(before, first, dtype=dtype, rngs=rngs) for before in (1, first)[:in_stem])
        self.aggregation = LocalTemporalAggregation(first, dtype=dtype, rngs=rngs)
        stages = []
        for i, (before, after) in enumerate(zip((first, *outputs[:-1]), outputs, strict=True)):
            pairs = [(before, after), (after, after)][:in_stem]
            stages.append(
                nnx.List(
                    GLConv(
                        *pair,
                        strips=strips,
                        stacked=i == len(outputs) - 1 and j == len(pairs) - 1,
                        dtype=dtype,
                        rngs=rngs,
                    )
                    for j, pair in enumerate(pairs)
                )
            )
        self.stages = nnx.List(stages)
        self.gem = GeM()
        head = NeckHead if necks else NormHead
        self.head = head(outputs[-1], num_classes, dtype=dtype, rngs=rngs)

    @classmethod
    def check(cls, arguments: Mapping[str, Any]) -> None:
        """Checks that the number of channels fits the form."""
        channels, form = tuple(arguments["channels"]), arguments["form"]
        wanted = 3 if form == "small" else 4
        if len(channels) != wanted:
            raise ConfigError(f"model.channels: is {channels}; the {form} form has {wanted}")

    @classmethod
    def part_strips(cls, arguments: Mapping[str, Any]) -> tuple[Strip, ...]:
        """Returns where each part of the embedding lies in a frame."""
        del arguments
        half = (PARTS // 2,)  # the last convolution stacks both
        return equal_strips(half, "global", (0, 2)) + equal_strips(half, "local", (1, 2))

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
            frames: [rows, slots, height, width], uint8 or floats in [0, 1]; height 64, width even.
            segment_ids: [rows, slots], the sequence within its row, −1 at empty slots. A sequence begins at a
                multiple of 3, with at least one empty slot before the next, and has at least 4 slots to
                itself (`SPACING`). One of fewer than 3 frames is repeated, as the reference does.
            num_segments: how many sequences a row holds at most.
            train: whether batch normalisation uses, and records, the statistics of this batch.

        Returns:
            Embeddings [rows·num_segments, 64, channels[-1]] and logits [rows·num_segments, 64, classes].
        """
        frames, ids = _repeat_short(frames, segment_ids, whole_rows=self.whole_rows)
        x = to_unit_range(frames, self.dtype).reshape(*ids.shape, *frames.shape[2:], 1)
        for conv in self.stem:
            x = leaky_relu(self.run_block(conv, zero_empty(x, ids >= 0)))
        x, ids = self.run_block(self.aggregation, x), _ids_of_windows(ids)
        for i, stage in enumerate(self.stages):
            for block in stage:
                x = self.run_block(block, x, mask=ids >= 0)
            if i == 0:
                x = max_pool_2x2(x.reshape(-1, *x.shape[2:])).reshape(*ids.shape, *_halved(x))
        pooled = temporal_max(x.reshape(-1, *x.shape[2:]), ids, num_segments, keeper=self)
        present = segments_present(ids, num_segments)
        rows = self.gem(pooled.astype(self.gem.p[...].dtype))
        embeddings, logits = self.head(rows, train=train, mask=present)
        return GaitOutput(jnp.where(present[:, None, None], embeddings, 0), logits, present)


def _halved(x: Float[Array, "r s h w c"]) -> tuple[int, int, int]:
    return x.shape[2] // 2, x.shape[3] // 2, x.shape[4]


def _repeat_short(
    frames: UInt8[Array, "r s h w"] | Float[Array, "r s h w"],
    segment_ids: Int[Array, "r s"],
    *,
    whole_rows: bool,
) -> tuple[UInt8[Array, "r t h w"] | Float[Array, "r t h w"], Int[Array, "r t"]]:
    """Repeats a single frame three times, and two frames twice, into the empty slots after them.

    Rows that are too short for that, and whole rows, which have no empty slot, are extended.
    """
    missing = STRIDE if whole_rows else max(0, SHORTEST - segment_ids.shape[1])
    frames = jnp.pad(frames, ((0, 0), (0, missing), (0, 0), (0, 0)))
    ids = jnp.pad(segment_ids, ((0, 0), (0, missing)), constant_values=-1)
    first = (ids >= 0) & (ids != _from_before(ids, 1, -1))
    alone = first & (ids != _from_behind(ids, 1))
    two = first & ~alone & (ids != _from_behind(ids, 2))
    by_one = _from_before(alone, 1, False)
    by_two = _from_before(alone | two, 2, False) | _from_before(two, 3, False)

    def repeated(x: Array) -> Array:
        def beside(mask: Array) -> Array:
            return mask.reshape(*mask.shape, *(1,) * (x.ndim - 2))

        again = jnp.where(beside(by_two), _from_before(x, 2, 0), x)
        return jnp.where(beside(by_one), _from_before(x, 1, 0), again)

    return repeated(frames), repeated(ids)


def _from_before(x: Array, slots: int, fill: int | bool) -> Array:
    """Returns the values so many slots earlier."""
    rest = ((0, 0),) * (x.ndim - 2)
    return jnp.pad(x, ((0, 0), (slots, 0), *rest), constant_values=fill)[:, : x.shape[1]]


def _from_behind(ids: Int[Array, "r s"], slots: int) -> Int[Array, "r s"]:
    return jnp.pad(ids[:, slots:], ((0, 0), (0, slots)), constant_values=-1)


def _ids_of_windows(ids: Int[Array, "r s"]) -> Int[Array, "r t"]:
    """Returns the sequence of each window, −1 if its slots do not all belong to one sequence."""
    windows = ids.shape[1] // STRIDE
    joined = ids[:, : windows * STRIDE].reshape(ids.shape[0], windows, STRIDE)
    return jnp.where((joined == joined[:, :, :1]).all(axis=2), joined[:, :, 0], -1)
