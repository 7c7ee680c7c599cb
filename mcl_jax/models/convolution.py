"""2-D convolutions without bias, padded by half their kernel on both sides as PyTorch pads.

XLA's own convolution is the right one on GPUs and TPUs, and in training. On the CPU, where it is bound by
arithmetic, a 3×3 kernel with stride 1 goes through Winograd's F(2×2, 3×3) in a test (Lavin & Gray 2016,
arXiv:1509.09308): 16 products for every 2×2 outputs instead of 36, exact to a few float32 roundings. Which of
the two is decided here and nowhere else, when a program is lowered for its platform.
"""

import operator
from collections.abc import Sequence
from functools import partial, reduce

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

# The 1-D transforms Bᵀ of four inputs x, G of three weights w, Aᵀ to two outputs Aᵀ[(G w) ⊙ (Bᵀ x)].
_OF_INPUT = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
_OF_KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
_TO_OUTPUT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])

_FEWEST_CHANNELS = 64  # below, moving the data costs more than the products
_TILES_AT_ONCE = 1024  # of 2×2 outputs, so that what lies between the transforms stays in the cache


def convolve(
    x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw c d"], stride: int = 1
) -> Float[Array, "n h2 w2 d"]:
    """Returns the convolution of images with a kernel of odd size.

    In float32 every product is computed in true float32 (no TF32 on NVIDIA GPUs).
    """
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(size // 2, size // 2) for size in kernel.shape[:2]],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=lax.Precision.HIGHEST if x.dtype != jnp.bfloat16 else None,
    )


def convolve_in_test(
    x: Float[Array, "n h w c"], kernel: Float[Array, "kh kw c d"], stride: int = 1
) -> Float[Array, "n h2 w2 d"]:
    """Returns the same, to float32 rounding, by Winograd's way where that is faster."""
    direct = partial(convolve, stride=stride)
    if not _suits_winograd(x, kernel, stride):
        return direct(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=_winograd, default=direct)


def _suits_winograd(x: Array, kernel: Array, stride: int) -> bool:
    exact = x.dtype in (jnp.float32, jnp.float64)
    return exact and stride == 1 and kernel.shape[:2] == (3, 3) and min(kernel.shape[2:]) >= _FEWEST_CHANNELS


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
    n, height, width, _ = x.shape
    tiles = -(-height // 2) * -(-width // 2)
    chunks = -(-n * tiles // _TILES_AT_ONCE)
    size = -(-n // chunks)
    chunks = -(-n // size)
    x = jnp.pad(x, ((0, chunks * size - n), (0, 0), (0, 0), (0, 0)))
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
