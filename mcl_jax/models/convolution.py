"""Convolutions without bias, padded by half their kernel on both sides as PyTorch pads.

XLA's own convolution is the right one on GPUs and TPUs. On the CPU, where it is bound by arithmetic, others
are faster: in a test a 3×3 kernel with stride 1 goes through Winograd's F(2×2, 3×3) (Lavin & Gray 2016,
arXiv:1509.09308), 16 products for every 2×2 outputs instead of 36, exact to a few float32 roundings; in
training the gradient of a 3×3 kernel with stride 2 leaves out the products with the zeros between its rows,
and that of a kernel waits for what it is computed from; in a test images go through layers a few at a time.
Which way is taken is decided here and nowhere else, when a program is lowered for its platform.
"""

import operator
from collections.abc import Callable, Sequence
from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Shaped

from mcl_jax.models.plain import is_plain

# The 1-D transforms Bᵀ of four inputs x, G of three weights w, Aᵀ to two outputs Aᵀ[(G w) ⊙ (Bᵀ x)].
_OF_INPUT = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
_OF_KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
_TO_OUTPUT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])

_IMAGES_AT_ONCE = 16  # 32, 64 and 128 are alike

_HALF = (jnp.bfloat16, jnp.float16)

_TILES_AT_ONCE = 1024  # of 2×2 outputs, so that what lies between the transforms stays in the cache
# With fewer, moving the data costs more than the products; less so where each image is a chunk by itself.
_FEWEST_CHANNELS, _FEWEST_CHANNELS_OF_LARGE_IMAGES = 128, 64


def convolve(
    x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw c d"], stride: int = 1
) -> Float[Array, "n h2 w2 d"]:
    """Returns the convolution of images with a kernel of odd size.

    In float32 every product is computed in true float32 (no TF32 on NVIDIA GPUs).
    """
    if kernel.shape[:2] == (1, 1):
        x = lax.slice(x, (0,) * 4, x.shape, (1, stride, stride, 1))
        return jnp.matmul(x, kernel[0, 0], precision=_precision(x))
    return _convolve_to_train(x, kernel, stride)


def _convolve(x: Array, kernel: Array, stride: int) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(size // 2, size // 2) for size in kernel.shape[:2]],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=_precision(x),
    )


def _precision(x: Array) -> lax.Precision | None:
    return None if x.dtype in _HALF else lax.Precision.HIGHEST


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve_to_train(x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw c d"], stride: int) -> Array:
    return _convolve(x, kernel, stride)


def _convolve_forward(x: Array, kernel: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(x, kernel, stride), (x, kernel)


def _convolve_backward(stride: int, residuals: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = residuals

    def to_input(x: Array, kernel: Array, gradient: Array) -> Array:
        return jax.vjp(lambda x: _convolve(x, kernel, stride), x)[1](gradient)[0]

    def to_input_on_cpu(x: Array, kernel: Array, gradient: Array) -> Array:
        if kernel.shape[:2] == (3, 3) and stride == 2 and x.shape[1] % 2 == x.shape[2] % 2 == 0:
            return _gradient_by_parity(kernel, gradient)
        return to_input(x, kernel, gradient)

    def to_kernel(x: Array, gradient: Array) -> Array:
        zeros = jnp.zeros(kernel.shape, kernel.dtype)
        return jax.vjp(lambda kernel: _convolve(x, kernel, stride), zeros)[1](gradient)[0]

    def to_kernel_on_cpu(x: Array, gradient: Array) -> Array:
        # It transposes both. Without the barrier that is one loop with all that they are computed from, such
        # as a normalisation, and takes three times as long.
        return to_kernel(*lax.optimization_barrier((x, gradient)))

    return (
        lax.platform_dependent(x, kernel, gradient, cpu=to_input_on_cpu, default=to_input),
        lax.platform_dependent(x, gradient, cpu=to_kernel_on_cpu, default=to_kernel),
    )


_convolve_to_train.defvjp(_convolve_forward, _convolve_backward)


def _gradient_by_parity(kernel: Float[Array, "3 3 c d"], gradient: Float[Array, "n h w d"]) -> Array:
    """Returns the gradient [n, 2h, 2w, c] of a convolution's input.

    An even row 2i has been seen by output i alone, with the middle row of the kernel; an odd one, 2i + 1, by
    outputs i and i + 1, with its last and its first row. Columns likewise.
    """
    seen_by = (slice(1, 2), slice(2, None, -2))  # rows of the kernel, in the order of the outputs
    flipped = kernel.swapaxes(2, 3)

    def of_parity(row: int, column: int) -> Array:
        return lax.conv_general_dilated(
            gradient,
            flipped[seen_by[row], seen_by[column]],
            (1, 1),
            [(0, row), (0, column)],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=_precision(gradient),
        )

    rows = [jnp.stack([of_parity(row, 0), of_parity(row, 1)], axis=3) for row in (0, 1)]
    n, height, width, _, channels = rows[0].shape
    return jnp.stack(rows, axis=2).reshape(n, 2 * height, 2 * width, channels)


def map_images(function: Callable[..., Array], *arrays: Array, train: bool) -> Array:
    """Returns function(*arrays), in a test on the CPU for some images at a time.

    What lies between its layers stays in the cache then, and in memory that is there already. In training the
    gradient of such a loop would be slow. The function treats every image alike and by itself, but for what
    batch normalisation records in training.

    Args:
        function: from arrays [m, ...] to one [m, ...].
        arrays: [n, ...] each, one entry for each image.
        train: whether the model trains.
    """
    if train or is_plain() or len(arrays[0]) <= _IMAGES_AT_ONCE:
        return function(*arrays)

    def by_chunks(*arrays: Array) -> Array:
        chunks = tuple(_cut(x, _IMAGES_AT_ONCE) for x in arrays)
        y = lax.map(lambda chunk: function(*chunk), chunks)
        return y.reshape(-1, *y.shape[2:])[: len(arrays[0])]

    return lax.platform_dependent(*arrays, cpu=by_chunks, default=function)


def convolve_in_time(
    x: Float[Array, "r s h w c"], kernel: Float[Array, "t kh kw c d"], stride: int = 1
) -> Float[Array, "r s h2 w2 d"]:
    """Returns the convolution over slots, with stride 1, and over space, with the given stride.

    On the CPU the neighbouring slots become channels of a 2-D convolution, which takes a third to a half of
    the time there and three times the memory of x.
    """
    if is_plain():
        return _convolve_3d(x, kernel, stride)
    return lax.platform_dependent(
        x,
        kernel,
        cpu=partial(_neighbours_as_channels, stride=stride),
        default=partial(_convolve_3d, stride=stride),
    )


def _convolve_3d(x: Array, kernel: Array, stride: int) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (1, stride, stride),
        [(size // 2, size // 2) for size in kernel.shape[:3]],
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
        precision=_precision(x),
    )


def _neighbours_as_channels(x: Array, kernel: Array, stride: int) -> Array:
    (rows, slots), (times, height, width, _, features_out) = x.shape[:2], kernel.shape
    padded = jnp.pad(x, ((0, 0), (times // 2, times // 2), (0, 0), (0, 0), (0, 0)))
    neighbours = jnp.concatenate([padded[:, i : i + slots] for i in range(times)], axis=-1)
    flat = kernel.transpose(1, 2, 0, 3, 4).reshape(height, width, -1, features_out)
    y = convolve(neighbours.reshape(rows * slots, *neighbours.shape[2:]), flat, stride)
    return y.reshape(rows, slots, *y.shape[1:])


def convolve_in_test(
    x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw c d"], stride: int = 1
) -> Float[Array, "n h2 w2 d"]:
    """Returns the same, to float32 rounding, by Winograd's way where that is faster."""
    direct = partial(convolve, stride=stride)
    if is_plain() or not _suits_winograd(x, kernel, stride):
        return direct(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=_winograd, default=direct)


def _suits_winograd(x: Array, kernel: Array, stride: int) -> bool:
    if x.dtype in _HALF or stride != 1 or kernel.shape[:2] != (3, 3):
        return False
    fewest = _FEWEST_CHANNELS_OF_LARGE_IMAGES if _tiles(x) >= _TILES_AT_ONCE // 2 else _FEWEST_CHANNELS
    return min(kernel.shape[2:]) >= fewest


def _tiles(x: Float[Array, "n h w c"]) -> int:
    """Returns how many tiles of 2×2 outputs an image has."""
    return -(-x.shape[1] // 2) * -(-x.shape[2] // 2)


def _winograd(x: Float[Array, "n h w c"], kernel: Float[Array, "3 3 c d"]) -> Float[Array, "n h w d"]:
    """Returns the 3×3 convolution of stride 1."""
    g = jnp.asarray(_OF_KERNEL, kernel.dtype)
    weights = jnp.einsum("ai,bj,ijcd->abcd", g, g, kernel, precision=lax.Precision.HIGHEST)

    def of_chunk(x: Float[Array, "m h w c"]) -> Float[Array, "m h w d"]:
        products = [
            [jnp.matmul(tiles, weights[i, j], precision=lax.Precision.HIGHEST) for j, tiles in enumerate(row)]
            for i, row in enumerate(_input_tiles(x))
        ]
        m, down, across, d = products[0][0].shape
        y = jnp.stack([jnp.stack(row, axis=3) for row in _transform(_TO_OUTPUT, products)], axis=2)
        return y.reshape(m, 2 * down, 2 * across, d)[:, : x.shape[1], : x.shape[2]]

    y = lax.map(of_chunk, _chunks(x))
    return y.reshape(-1, *y.shape[2:])[: len(x)]


def _chunks(x: Float[Array, "n h w c"]) -> Float[Array, "k m h w c"]:
    """Cuts images into chunks for the cache; zeros fill up the last one."""
    n = len(x)
    chunks = -(-n * _tiles(x) // _TILES_AT_ONCE)
    return _cut(x, -(-n // chunks))


def _cut(x: Shaped[Array, "n ..."], size: int) -> Shaped[Array, "k m ..."]:
    """Cuts images into chunks of a size; zeros fill up the last one."""
    chunks = -(-len(x) // size)
    x = jnp.pad(x, ((0, chunks * size - len(x)), *((0, 0),) * (x.ndim - 1)))
    return x.reshape(chunks, size, *x.shape[1:])


def _input_tiles(x: Float[Array, "m h w c"]) -> list[list[Array]]:
    """Returns the 4×4 transformed inputs [m, h/2, w/2, c] of every tile; tiles overlap by two."""
    down, across = -(-x.shape[1] // 2), -(-x.shape[2] // 2)
    x = jnp.pad(x, ((0, 0), (1, 2 * down + 1 - x.shape[1]), (1, 2 * across + 1 - x.shape[2]), (0, 0)))
    tiles = [[x[:, i : i + 2 * down : 2, j : j + 2 * across : 2] for j in range(4)] for i in range(4)]
    return _transform(_OF_INPUT, tiles)


def _transform(matrix: np.ndarray, tiles: Sequence[Sequence[Array]]) -> list[list[Array]]:
    """Returns matrix · tiles · matrixᵀ, where the entries of tiles are arrays, by additions alone."""
    half = [_combine(matrix, column) for column in zip(*tiles, strict=True)]
    return [_combine(matrix, row) for row in zip(*half, strict=True)]


def _combine(matrix: np.ndarray, terms: Sequence[Array]) -> list[Array]:
    return [
        reduce(
            operator.add, (term if sign > 0 else -term for sign, term in zip(row, terms, strict=True) if sign)
        )
        for row in matrix
    ]
