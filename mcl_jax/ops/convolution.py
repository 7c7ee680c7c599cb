"""Convolutions without bias, padded by half their kernel on both sides, as in PyTorch.

On GPUs and TPUs, XLA's own convolution is best, for 1×1 kernels too: a projection with a stride, written as a
slice and a matrix product, aborts XLA's GPU compiler (openxla/xla#47381). On the CPU, float32 uses
`mcl_jax.ops.cpu` if possible; otherwise 1×1 kernels are matrix products. When testing on the CPU, images go
through the layers a few at a time. Only this module chooses, when a program is lowered for its platform. A
portable program, for export, uses XLA's convolution on every platform.

Kernels arrive in the type they are stored in and are rounded to the images' type here. So their gradients are
summed over devices in float32, whatever the type of the images.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Shaped

from mcl_jax.ops.cpu import kernels as native
from mcl_jax.ops.per_device import on_each_device

_IMAGES_AT_ONCE = 32

_HALF = (jnp.bfloat16, jnp.float16)


def precision_of(dtype: DTypeLike) -> lax.Precision | None:
    """Returns the precision for matrix products of a model that computes in a type.

    In float32 they are true float32. In half precision, the products that stay in float32, such as the
    head's, use TF32 on NVIDIA GPUs, whose rounding is finer than that of their inputs.
    """
    return None if dtype in _HALF else lax.Precision.HIGHEST


def convolve(
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "kh kw c d"],
    stride: int = 1,
    *,
    slope: float = 1.0,
    portable: bool = False,
) -> Float[Array, "n h2 w2 d"]:
    """Returns the convolution with a kernel of odd size; negative results are multiplied by the slope.

    In float32 every product is computed in true float32 (no TF32 on NVIDIA GPUs). At 0 the derivative is
    the slope, as in PyTorch.

    Args:
        x: images; the output has their type.
        kernel: its weights, rounded to the type of x. Their gradient has their own type.
        stride: in both directions.
        slope: 1 for the convolution alone.
        portable: whether to use XLA's own convolution on every platform.
    """
    if portable:
        return _activate(_by_xla(x, kernel, stride), slope)
    return _convolve(x, kernel, stride, slope)


def convolve_in_test(
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "kh kw c d"],
    stride: int = 1,
    *,
    bias: Float[Array, " d"],
    residual: Float[Array, "n h2 w2 d"] | None = None,
    slope: float = 1.0,
    portable: bool = False,
) -> Float[Array, "n h2 w2 d"]:
    """Returns the convolution plus bias and residual; negative results are multiplied by the slope.

    In half precision the bias is rounded to it, and cuDNN adds it, the residual and the activation in the
    same kernel.
    """
    if portable:
        return _finished(_by_xla, stride, slope, x, kernel, bias, residual)
    return _convolve_in_test(x, kernel, bias, residual, stride, slope)


def _finished(
    convolution: Callable[..., Array],
    stride: int,
    slope: float,
    x: Array,
    kernel: Array,
    bias: Array,
    residual: Array | None,
) -> Array:
    y = convolution(x, kernel, stride) + bias.astype(x.dtype)
    return _activate(y if residual is None else y + residual, slope)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _convolve_in_test(
    x: Array, kernel: Array, bias: Array, residual: Array | None, stride: int, slope: float
) -> Array:
    on_cpu = partial(_finished, _by_xla_on_cpu, stride, slope)
    if native.suits(x, kernel.shape[-1]):
        on_cpu = partial(_natively, stride=stride, slope=slope)
    default = partial(_finished, _by_xla, stride, slope)
    return lax.platform_dependent(x, kernel, bias, residual, cpu=on_cpu, default=default)


def _convolve_in_test_forward(
    x: Array, kernel: Array, bias: Array, residual: Array | None, stride: int, slope: float
) -> tuple[Array, Any]:
    return _convolve_in_test(x, kernel, bias, residual, stride, slope), (x, kernel, bias, residual)


def _convolve_in_test_backward(stride: int, slope: float, operands: Any, gradient: Array) -> Any:
    return jax.vjp(partial(_finished, _by_xla, stride, slope), *operands)[1](gradient)


_convolve_in_test.defvjp(_convolve_in_test_forward, _convolve_in_test_backward)


def _activate(y: Array, slope: float) -> Array:
    if slope == 0:
        return jax.nn.relu(y)
    return y if slope == 1 else jnp.where(y > 0, y, slope * y)


def _by_xla(x: Array, kernel: Array, stride: int, padding: Sequence[tuple[int, int]] | None = None) -> Array:
    """Returns XLA's own convolution of images, or of rows of slots if the kernel extends in time."""
    extent = kernel.shape[:-2]
    if padding is None:
        padding = [(size // 2, size // 2) for size in extent]
    in_time = len(extent) == 3
    return lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        (1, stride, stride) if in_time else (stride, stride),
        padding,
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC") if in_time else ("NHWC", "HWIO", "NHWC"),
        precision=precision_of(x.dtype),
    )


def _by_xla_on_cpu(x: Array, kernel: Array, stride: int) -> Array:
    """Returns the same, with a matrix product for a 1×1 kernel, which a CPU computes faster."""
    if kernel.shape[:-2] != (1, 1):
        return _by_xla(x, kernel, stride)
    x = lax.slice(x, (0,) * 4, x.shape, (1, stride, stride, 1))
    return jnp.matmul(x, kernel[0, 0].astype(x.dtype), precision=precision_of(x.dtype))


def _natively(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    residual: Array | None = None,
    *,
    stride: int = 1,
    slope: float = 1.0,
    before: tuple[int, int] | None = None,
) -> Array:
    """Returns the convolution by the C++ kernels, padded by `before` instead of half the kernel."""

    def ours(x: Array, residual: Array | None, kernel: Array, bias: Array | None) -> Array:
        return native.convolve(
            x,
            kernel,
            stride=stride,
            before=_padding(kernel) if before is None else before,
            size=(-(-x.shape[1] // stride), -(-x.shape[2] // stride)),
            bias=bias,
            residual=residual,
            slope=slope,
        )

    return on_each_device(ours, (x, residual), (kernel, bias), add=False)


def _padding(kernel: Array) -> tuple[int, int]:
    height, width = kernel.shape[:2]
    return height // 2, width // 2


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x: Array, kernel: Array, stride: int, slope: float) -> Array:
    def by(convolution: Callable[..., Array]) -> Callable[..., Array]:
        return lambda x, kernel: _activate(convolution(x, kernel, stride), slope)

    on_cpu = by(_by_xla_on_cpu)
    if native.suits(x, kernel.shape[-1]):
        on_cpu = partial(_natively, stride=stride, slope=slope)
    return lax.platform_dependent(x, kernel, cpu=on_cpu, default=by(_by_xla))


def _convolve_forward(x: Array, kernel: Array, stride: int, slope: float) -> tuple[Array, Any]:
    y = _convolve(x, kernel, stride, slope)
    return y, (x, kernel, None if slope == 1 else y > 0)


def _convolve_backward(stride: int, slope: float, residuals: Any, gradient: Array) -> tuple[Array, Array]:
    x, kernel, positive = residuals
    if positive is not None:
        gradient = jnp.where(positive, gradient, slope * gradient)
    return _gradient_of_input(x, kernel, gradient, stride), _gradient_of_kernel(x, kernel, gradient, stride)


_convolve.defvjp(_convolve_forward, _convolve_backward)


def _gradient_of_input(x: Array, kernel: Array, gradient: Array, stride: int) -> Array:
    strided = kernel.shape[:2] == (3, 3) and stride == 2 and x.shape[1] % 2 == x.shape[2] % 2 == 0

    def on_cpu(x: Array, kernel: Array, gradient: Array) -> Array:
        ours = native.suits(gradient, kernel.shape[2])
        if strided:
            convolve = partial(_natively, before=(0, 0)) if ours else _convolve_from_here
            return _gradient_by_parity(kernel.astype(x.dtype), gradient, convolve)
        if stride == 1 and ours:
            return _natively(gradient, kernel[::-1, ::-1].swapaxes(2, 3))
        return _transposed_by_xla(x, kernel, gradient, stride, _by_xla_on_cpu)

    default = partial(_transposed_by_xla, stride=stride)
    return lax.platform_dependent(x, kernel, gradient, cpu=on_cpu, default=default)


def _transposed_by_xla(
    x: Array, kernel: Array, gradient: Array, stride: int, convolution: Callable[..., Array] = _by_xla
) -> Array:
    return jax.vjp(lambda x: convolution(x, kernel, stride), x)[1](gradient)[0]


def _gradient_of_kernel(x: Array, kernel: Array, gradient: Array, stride: int) -> Array:
    def on_cpu(x: Array, gradient: Array) -> Array:
        if native.suits(gradient, kernel.shape[3]):
            size = kernel.shape[0], kernel.shape[1]
            ours = partial(native.kernel_gradient, kernel=size, stride=stride, before=_padding(kernel))
            return on_each_device(ours, (x, gradient), (), add=True)
        # XLA transposes both. Without the barrier it fuses this with the computation of the inputs, such as
        # a normalisation, which takes three times as long.
        x, gradient = lax.optimization_barrier((x, gradient))
        return _kernel_gradient_by_xla(x, gradient, kernel, stride, _by_xla_on_cpu)

    default = partial(_kernel_gradient_by_xla, kernel=kernel, stride=stride)
    return lax.platform_dependent(x, gradient, cpu=on_cpu, default=default)


def _kernel_gradient_by_xla(
    x: Array, gradient: Array, kernel: Array, stride: int, convolution: Callable[..., Array] = _by_xla
) -> Array:
    """Returns the kernel's gradient; each device rounds its share to the kernel's type before adding.

    By default XLA would add the shares in the type of x.
    """

    def share(x: Array, gradient: Array) -> Array:
        zeros = jnp.zeros(kernel.shape, x.dtype)
        back = jax.vjp(lambda kernel: convolution(x, kernel, stride), zeros)[1]
        return back(gradient)[0].astype(kernel.dtype)

    if x.dtype == kernel.dtype:
        return share(x, gradient)
    return on_each_device(share, (x, gradient), (), add=True)


def _gradient_by_parity(
    kernel: Float[Array, "3 3 c d"],
    gradient: Float[Array, "n h w d"],
    convolve: Callable[[Array, Array], Array],
) -> Float[Array, "n h2 w2 c"]:
    """Returns the gradient [n, 2h, 2w, c] of a convolution's input, stride 2, without products with zeros.

    An even row 2i is used only by output i, with the middle row of the kernel. An odd row 2i + 1 is used by
    outputs i and i + 1, with the kernel's last and first row. The same holds for columns.

    Args:
        kernel: its weights.
        gradient: of the output.
        convolve: a convolution padded with zeros only below and to the right.
    """
    seen_by = (slice(1, 2), slice(2, None, -2))  # rows of the kernel, in the order of the outputs
    flipped = kernel.swapaxes(2, 3)
    rows = [
        jnp.stack([convolve(gradient, flipped[row, column]) for column in seen_by], axis=3) for row in seen_by
    ]
    n, height, width, _, channels = rows[0].shape
    return jnp.stack(rows, axis=2).reshape(n, 2 * height, 2 * width, channels)


def _convolve_from_here(x: Array, kernel: Array) -> Array:
    return _by_xla(x, kernel, 1, [(0, size - 1) for size in kernel.shape[:2]])


def map_images(function: Callable[..., Array], *arrays: Array, at_once: bool) -> Array:
    """Returns function(*arrays); when testing on the CPU, a few images at a time.

    Then intermediate arrays stay in the cache and reuse the same memory. In training, the gradient of such a
    loop would be slow. The function must treat each image by itself, except that batch normalisation may
    record statistics in training.

    Args:
        function: from arrays [m, ...] to one [m, ...].
        arrays: [n, ...] each, one entry for each image.
        at_once: whether to apply it to all images at once on the CPU too, as for training and export.
    """
    if at_once or len(arrays[0]) <= _IMAGES_AT_ONCE:
        return function(*arrays)

    def by_chunks(*arrays: Array) -> Array:
        chunks = tuple(_cut(x, _IMAGES_AT_ONCE) for x in arrays)
        y = lax.map(lambda chunk: function(*chunk), chunks)
        return y.reshape(-1, *y.shape[2:])[: len(arrays[0])]

    return lax.platform_dependent(*arrays, cpu=by_chunks, default=function)


def _cut(x: Shaped[Array, "n ..."], size: int) -> Shaped[Array, "k m ..."]:
    """Cuts images into chunks of a size; zeros fill up the last one."""
    chunks = -(-len(x) // size)
    x = jnp.pad(x, ((0, chunks * size - len(x)), *((0, 0),) * (x.ndim - 1)))
    return x.reshape(chunks, size, *x.shape[1:])


def convolve_in_time(
    x: Float[Array, "r s h w c"],
    kernel: Float[Array, "t kh kw c d"],
    stride: int = 1,
    *,
    strips: int = 1,
    portable: bool = False,
) -> Float[Array, "r s h2 w2 d"]:
    """Returns the convolution over slots, with stride 1, and over space, with the given stride.

    On the CPU the neighbouring slots become channels of a 2-D convolution. It takes a third to a half of the
    time, and three times the memory of x.

    Args:
        x: rows of slots.
        kernel: its weights, rounded to the type of x. Their gradient has their own type.
        stride: in space.
        strips: number of strips of the height to convolve separately, each padded with zeros; needs
            stride 1.
        portable: whether to use XLA's own convolution on every platform.
    """
    if portable:
        return _by_strips(_by_xla, strips, stride, x, kernel)
    return lax.platform_dependent(
        x,
        kernel,
        cpu=partial(_neighbours_as_channels, stride=stride, strips=strips),
        default=partial(_by_strips, _convolve_3d, strips, stride),
    )


def _by_strips(convolution: Callable[..., Array], strips: int, stride: int, x: Array, kernel: Array) -> Array:
    """Applies a convolution of rows of slots to each strip as a row of its own."""
    if strips == 1:
        return convolution(x, kernel, stride)
    rows, slots, height, width, channels = x.shape
    cut = x.reshape(rows, slots, strips, height // strips, width, channels).swapaxes(1, 2)
    y = convolution(cut.reshape(rows * strips, slots, height // strips, width, channels), kernel, stride)
    y = y.reshape(rows, strips, slots, height // strips, width, -1).swapaxes(1, 2)
    return y.reshape(rows, slots, height, width, -1)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve_3d(x: Array, kernel: Array, stride: int) -> Array:
    return _by_xla(x, kernel, stride)


def _convolve_3d_forward(x: Array, kernel: Array, stride: int) -> tuple[Array, Any]:
    return _by_xla(x, kernel, stride), (x, kernel)


def _convolve_3d_backward(stride: int, residuals: Any, gradient: Array) -> tuple[Array, Array]:
    x, kernel = residuals
    to_kernel = _kernel_gradient_by_xla(x, gradient, kernel, stride)
    return _transposed_by_xla(x, kernel, gradient, stride), to_kernel


_convolve_3d.defvjp(_convolve_3d_forward, _convolve_3d_backward)


def _neighbours_as_channels(x: Array, kernel: Array, stride: int, strips: int) -> Array:
    (rows, slots), (times, height, width, _, features_out) = x.shape[:2], kernel.shape
    padded = jnp.pad(x, ((0, 0), (times // 2, times // 2), (0, 0), (0, 0), (0, 0)))
    neighbours = jnp.concatenate([padded[:, i : i + slots] for i in range(times)], axis=-1)
    flat = kernel.transpose(1, 2, 0, 3, 4).reshape(height, width, -1, features_out)
    images = neighbours.reshape(rows * slots * strips, x.shape[2] // strips, *neighbours.shape[3:])
    y = convolve(images, flat, stride)
    return y.reshape(rows, slots, strips * y.shape[1], *y.shape[2:])
