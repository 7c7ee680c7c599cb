"""Layers that the gait models share. Channels last; frames of all rows flattened to [rows·slots, h, w, c].

With `dtype=float32` every product is computed in true float32 (`Precision.HIGHEST`, so no TF32 on NVIDIA
GPUs). The fast modes are `dtype=bfloat16` and `float16`; see `convolution.precision_of`. Parameters, batch
statistics and everything after temporal pooling are float32 in any mode.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, UInt8

from mcl_jax.errors import ConfigError
from mcl_jax.models.base import FRAME_SHAPE, GaitOutput
from mcl_jax.models.batch_norm import BatchNorm
from mcl_jax.models.initializers import conv_init, part_matrix_init
from mcl_jax.ops.convolution import convolve, convolve_in_test, precision_of
from mcl_jax.ops.pooling import max_pool_2x2, segment_max

L2_EPSILON = 1e-12
LEAKY_SLOPE = 0.01
WHITE = 255  # the value of a silhouette's pixels inside the person

KEPT = "over_time"
"""Attribute of a module that keeps the features of frames."""

CLASSIFIER = ("head", "necks", "kernel")
"""Path of the classifier in a model whose `PartHead` is called `head`."""


def to_unit_range(
    frames: UInt8[Array, "r s h w"] | Float[Array, "r s h w"], dtype: DTypeLike
) -> Float[Array, "r*s h w 1"]:
    """Flattens rows of frames to images in [0, 1]; uint8 is divided by 255, floats are unchanged."""
    rows, slots, height, width = frames.shape
    images = frames.reshape(rows * slots, height, width, 1)
    if images.dtype == jnp.uint8:
        # Divided in float32 and then rounded once: bfloat16 has no exact 1/255.
        images = images.astype(jnp.promote_types(dtype, jnp.float32)) / 255
    return images.astype(dtype)


def as_models_take(
    frames: UInt8[Array, "r s h w"] | Float[Array, "r s h w"], one: int
) -> UInt8[Array, "r s h w"] | Float[Array, "r s h w"]:
    """Returns frames divided by a number; as they are for 255, by which models divide uint8 themselves.

    Args:
        frames: rows of frames.
        one: the pixel value that a model shall see as 1.
    """
    return frames if one == WHITE else frames.astype(jnp.float32) / one


class Conv(nnx.Module):
    """A bias-free convolution of images, padded by half its kernel on both sides, as PyTorch pads."""

    portable: bool = False  # see `GaitModule`

    def __init__(
        self,
        features_in: int,
        features_out: int,
        kernel: tuple[int, int] = (3, 3),
        *,
        stride: int = 1,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        self.stride = stride
        self.dtype = dtype
        self.kernel = nnx.Param(conv_init(rngs.params(), (*kernel, features_in, features_out), jnp.float32))

    def __call__(self, x: Float[Array, "n h w c"], *, slope: float = 1.0) -> Float[Array, "n h2 w2 d"]:
        """Convolves x and multiplies negative results by the slope."""
        kernel = self.kernel[...]
        return convolve(x.astype(self.dtype), kernel, self.stride, slope=slope, portable=self.portable)


def leaky_relu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Multiplies negative numbers by `LEAKY_SLOPE`; the derivative at 0 is the slope, as in PyTorch."""
    return jnp.where(x > 0, x, LEAKY_SLOPE * x)


class ConvPair(nnx.Module):
    """Two convolutions, each followed by a leaky ReLU, then optional 2×2 max pooling.

    With several strips they are focal convolutions (Fan et al. 2020, GaitPart), which process each strip of a
    frame by itself.
    """

    def __init__(
        self,
        features_in: int,
        features_out: int,
        *,
        first_kernel: int = 3,
        strips: int = 1,
        pool: bool,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        self.strips = strips
        self.pool = pool
        kernel = (first_kernel, first_kernel)
        self.conv1 = Conv(features_in, features_out, kernel, dtype=dtype, rngs=rngs)
        self.conv2 = Conv(features_out, features_out, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c2"]:
        """Maps [n, h, w, features_in] to [n, h, w, features_out], halved in space if it pools."""
        n, height, width, channels = x.shape
        # As separate images, the strips are padded with zeros at the cuts.
        x = x.reshape(n * self.strips, height // self.strips, width, channels)
        x = self.conv2(self.conv1(x, slope=LEAKY_SLOPE), slope=LEAKY_SLOPE)
        x = x.reshape(n, height, width, -1)
        return max_pool_2x2(x) if self.pool else x


@jax.custom_vjp
def relu_of_sum(x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns ReLU(x + y); the gradient needs only the output, which the next layer keeps anyway."""
    return jax.nn.relu(x + y)


def _relu_of_sum_forward(x: Array, y: Array) -> tuple[Array, Array]:
    output = jax.nn.relu(x + y)
    # Without the barrier XLA computes the sum again for the gradient, and so reads both inputs.
    return output, lax.optimization_barrier(output)


def _relu_of_sum_backward(output: Array, gradient: Array) -> tuple[Array, Array]:
    gradient = jnp.where(output > 0, gradient, 0)
    return gradient, gradient


relu_of_sum.defvjp(_relu_of_sum_forward, _relu_of_sum_backward)


class ConvBN(nnx.Module):
    """A convolution and the batch normalisation of its output."""

    def __init__(
        self,
        features_in: int,
        features_out: int,
        kernel: tuple[int, int] = (3, 3),
        *,
        stride: int = 1,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        self.conv = Conv(features_in, features_out, kernel, stride=stride, dtype=dtype, rngs=rngs)
        self.norm = BatchNorm(features_out, rngs=rngs)

    def __call__(
        self, x: Float[Array, "n h w c"], *, train: bool, mask: Bool[Array, " n"]
    ) -> Float[Array, "n h2 w2 c2"]:
        """Returns BN(conv(x)); mask [n] is False at empty slots."""
        if train:
            return self.norm(self.conv(x), train=True, mask=mask)
        return self._in_test(x)

    def activated(
        self,
        x: Float[Array, "n h w c"],
        residual: Float[Array, "n h2 w2 c2"] | None = None,
        *,
        train: bool,
        mask: Bool[Array, " n"],
    ) -> Float[Array, "n h2 w2 c2"]:
        """Returns ReLU(BN(conv(x)) + residual)."""
        if train:
            y = self.norm(self.conv(x), train=True, mask=mask)
            return jax.nn.relu(y) if residual is None else relu_of_sum(y, residual)
        return self._in_test(x, residual=residual, slope=0.0)

    def _in_test(self, x: Array, **finish: Any) -> Array:
        """Returns the same with the running statistics folded into kernel and bias."""
        factor, shift = self.norm.in_test()
        conv, kernel = self.conv, self.conv.kernel[...] * factor
        finish |= {"bias": shift, "portable": conv.portable}
        return convolve_in_test(x.astype(conv.dtype), kernel, conv.stride, **finish)


class BasicBlock(nnx.Module):
    """The residual block of two 3×3 convolutions (He et al. 2016, arXiv:1512.03385)."""

    def __init__(self, features_in: int, features_out: int, *, stride: int, dtype: DTypeLike, rngs: nnx.Rngs):
        self.conv1 = ConvBN(features_in, features_out, stride=stride, dtype=dtype, rngs=rngs)
        self.conv2 = ConvBN(features_out, features_out, dtype=dtype, rngs=rngs)
        self.shortcut = shortcut(features_in, features_out, stride=stride, dtype=dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "f h w c"], *, train: bool, mask: Bool[Array, "r s"]
    ) -> Float[Array, "f h2 w2 c2"]:
        """Maps x [rows·slots, h, w, c]; mask [rows, slots] is False at empty slots."""
        flat = mask.reshape(-1)
        identity = x if self.shortcut is None else self.shortcut(x, train=train, mask=flat)
        y = self.conv1.activated(x, train=train, mask=flat)
        return self.conv2.activated(y, identity, train=train, mask=flat)


def shortcut(
    features_in: int, features_out: int, *, stride: int, dtype: DTypeLike, rngs: nnx.Rngs
) -> ConvBN | None:
    """Returns the 1×1 projection of a residual block, or None if the block keeps its input's shape."""
    if stride == 1 and features_in == features_out:
        return None
    return ConvBN(features_in, features_out, (1, 1), stride=stride, dtype=dtype, rngs=rngs)


def zero_empty(x: Float[Array, "*n h w c"], mask: Bool[Array, "*n"]) -> Float[Array, "*n h w c"]:
    """Sets empty slots to zero, which pads each sequence for a convolution over time.

    If done only once, a GPU writes the zeros in the kernel that computes x.
    """
    return jnp.where(mask[..., None, None, None], x, 0)


def segments_present(segment_ids: Int[Array, "r s"], num_segments: int) -> Bool[Array, " n"]:
    """Returns which of the `num_segments` sequences of each row have at least one frame, row by row."""
    return (segment_ids[:, :, None] == jnp.arange(num_segments)).any(axis=1).reshape(-1)


def temporal_max(
    features: Float[Array, "n ..."],
    segment_ids: Int[Array, "r s"],
    num_segments: int,
    *,
    whole_rows: bool = False,
    keeper: Any = None,
) -> Float[Array, "m ..."]:
    """Takes the maximum over the frames of each sequence.

    Frames with equal maxima share the gradient evenly (PyTorch gives it to one of them).

    Args:
        features: [rows·slots, ...].
        segment_ids: [rows, slots], the sequence within its row, −1 at empty slots.
        num_segments: how many sequences a row holds at most.
        whole_rows: whether each row is one sequence without empty slots.
        keeper: the `nnx.Module` that keeps the features if its `keeps_frames` is set (see `kept_frames`).

    Returns:
        [rows·num_segments, ...], zeros for absent sequences.
    """
    rows, slots = segment_ids.shape
    if keeper is not None and keeper.keeps_frames:
        _keep(keeper, features.reshape(rows, slots, *features.shape[1:]), segment_ids)
    if whole_rows:
        return features.reshape(rows, slots, *features.shape[1:]).max(axis=1)
    pooled = segment_max(features.reshape(rows, slots, *features.shape[1:]), segment_ids, num_segments)
    pooled = pooled.reshape(rows * num_segments, *features.shape[1:])
    present = segments_present(segment_ids, num_segments)
    return jnp.where(present.reshape(-1, *(1,) * (pooled.ndim - 1)), pooled, 0)


def _keep(keeper: nnx.Module, features: Float[Array, "r s ..."], segment_ids: Int[Array, "r s"]) -> None:
    before = getattr(keeper, KEPT, None)
    kept = () if before is None else before.get_value()
    setattr(keeper, KEPT, nnx.Intermediate((*kept, (features, segment_ids))))


def kept_frames(module: nnx.Module) -> list[tuple[Float[Array, "r s ..."], Int[Array, "r s"]]]:
    """Returns what maxima over time were taken of while a module with `keeps_frames` was called.

    Returns:
        Features [rows, slots, height, ...] and the sequence of each slot, for each maximum.
    """
    kept = nnx.to_flat_state(nnx.state(module, nnx.Intermediate))
    return [pair for path, value in kept if path[-1] == KEPT for pair in value.get_value()]


def horizontal_pyramid_pool(x: Float[Array, "n h w c"], bins: Sequence[int]) -> Float[Array, "n p c"]:
    """Cuts the height into strips and adds mean and maximum of each (Fu et al. 2019, arXiv:1804.05275).

    Args:
        x: [n, h, w, c].
        bins: numbers of strips; strips of one number have equally many cells; see `check_bins`.

    Returns:
        [n, sum(bins), c].
    """
    n, _, _, channels = x.shape
    pooled = []
    for b in bins:
        strips = x.reshape(n, b, -1, channels)
        pooled.append(strips.mean(axis=2) + strips.max(axis=2))
    return jnp.concatenate(pooled, axis=1)


def check_bins(bins: Sequence[int], *, halvings: int, frame_shape: tuple[int, int] = FRAME_SHAPE) -> None:
    """Checks that the bins of a pyramid divide a frame after a number of halvings.

    They need not divide the height: as in the reference, a strip is a run of consecutive cells, row by row.

    Raises:
        ConfigError: if there are no bins, or one does not divide the number of cells.
    """
    height, width = (-(-size // 2**halvings) for size in frame_shape)
    if not bins or any(height * width % b for b in bins):
        raise ConfigError(
            f"model.bins: is {tuple(bins)}; expected numbers that divide the {height} × {width} cells that "
            "the backbone leaves of a frame"
        )


class SeparateFCs(nnx.Module):
    """One linear map per part, without bias, in float32."""

    def __init__(
        self,
        parts: int,
        features_in: int,
        features_out: int,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.precision = precision_of(dtype)
        self.kernel = nnx.Param(
            part_matrix_init(rngs.params(), (parts, features_in, features_out), jnp.float32)
        )

    def __call__(self, x: Float[Array, "n p c"]) -> Float[Array, "n p d"]:
        """Maps [n, parts, features_in] to [n, parts, features_out]."""
        return jnp.einsum("npc,pcd->npd", x, self.kernel[...], precision=self.precision)


def normalize_parts(
    norm: BatchNorm, x: Float[Array, "n p c"], *, train: bool, mask: Bool[Array, " n"]
) -> Float[Array, "n p c"]:
    """Normalises every channel of every part by itself.

    Args:
        norm: batch normalisation of channels · parts features.
        x: [n, parts, channels].
        train: whether to use and record the statistics of this batch.
        mask: [n], False for absent sequences.

    Returns:
        An array of the shape of x.
    """
    n, parts, features = x.shape
    # The reference flattens channels first, and its checkpoints store the statistics in that order.
    flat = norm(x.swapaxes(1, 2).reshape(n, features * parts), train=train, mask=mask)
    return flat.reshape(n, features, parts).swapaxes(1, 2)


class BNNecks(nnx.Module):
    """Batch norm, L2 normalisation, and cosine logits per part (Luo et al. 2019, arXiv:1903.07071)."""

    def __init__(
        self, parts: int, features: int, num_classes: int, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ):
        self.precision = precision_of(dtype)
        self.norm = BatchNorm(features * parts, rngs=rngs)
        self.kernel = nnx.Param(part_matrix_init(rngs.params(), (parts, features, num_classes), jnp.float32))

    def __call__(
        self, x: Float[Array, "n p c"], *, train: bool, mask: Bool[Array, " n"]
    ) -> tuple[Float[Array, "n p c"], Float[Array, "n p k"]]:
        """Returns the unit-length features [n, p, c] and the cosine to every class [n, p, classes]."""
        normed = l2_normalize(normalize_parts(self.norm, x, train=train, mask=mask), axis=-1)
        kernel = l2_normalize(self.kernel[...], axis=1)
        return normed, jnp.einsum("npc,pck->npk", normed, kernel, precision=self.precision)


class PartHead(nnx.Module):
    """Head of a model with a classifier: pools over time, cuts into parts, maps to embeddings and logits.

    The embedding is the output of the separate FCs or, with `use_emb2`, the unit-length BNNeck feature.
    """

    whole_rows: bool = False  # see `GaitModule`
    keeps_frames: bool = False  # see `GaitModule`

    def __init__(
        self,
        bins: Sequence[int],
        features_in: int,
        embed_dim: int,
        num_classes: int,
        *,
        use_emb2: bool = False,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.bins = tuple(bins)
        self.use_emb2 = use_emb2
        self.fcs = SeparateFCs(sum(bins), features_in, embed_dim, dtype=dtype, rngs=rngs)
        self.necks = BNNecks(sum(bins), embed_dim, num_classes, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        features: Float[Array, "f h w c"],
        segment_ids: Int[Array, "r s"],
        *,
        num_segments: int,
        train: bool,
    ) -> GaitOutput:
        """Maps features [rows·slots, h, w, c] to the output for rows · num_segments sequences."""
        pooled = temporal_max(features, segment_ids, num_segments, whole_rows=self.whole_rows, keeper=self)
        present = segments_present(segment_ids, num_segments)
        pooled = pooled.astype(self.fcs.kernel[...].dtype)
        embeddings = self.fcs(horizontal_pyramid_pool(pooled, self.bins))
        normed, logits = self.necks(embeddings, train=train, mask=present)
        return GaitOutput(normed if self.use_emb2 else embeddings, logits, present)


def l2_normalize(x: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """Returns x scaled to length 1 along an axis; zero vectors stay zero."""
    # Clamped before the root to keep the gradient at the zero vector finite.
    squared = jnp.square(x).sum(axis=axis, keepdims=True)
    return x * lax.rsqrt(jnp.maximum(squared, L2_EPSILON**2))
