"""Calls the functions of `convolution.cc` from JAX on the CPU; derivatives are in `ops.convolution`."""

import functools
import threading

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax import lax
from jaxtyping import Array, Float

from mcl_jax.ops.cpu.library import library

_CONVOLVE, _KERNEL_GRADIENT = "mcl_jax_convolve", "mcl_jax_kernel_gradient"
_DISTANCES = "mcl_jax_distances"
_FEWEST_CHANNELS = 8  # with fewer, most lanes of the CPU's vector units would be wasted


_PREPARING = threading.Lock()


@functools.cache
def _preparation() -> threading.Thread:
    # Not a daemon: the process must not exit while the thread is inside XLA.
    thread = threading.Thread(target=_register, name="compile convolutions")
    thread.start()
    return thread


def prepare() -> None:
    """Loads the library in a thread, compiling it if needed; called at the start of a command.

    Programs traced in a process that has not called this use XLA's convolutions.
    """
    if _is_wanted():
        with _PREPARING:
            _preparation()


def _is_wanted() -> bool:
    # All hosts must run the same program, whatever compilers they have.
    return jax.default_backend() == "cpu" and jax.process_count() == 1


def suits(x: Float[Array, "n h w c"], features_out: int) -> bool:
    """Returns whether these kernels can compute a convolution of x to `features_out` channels."""
    return x.dtype == jnp.float32 and features_out >= _FEWEST_CHANNELS and x.size > 0 and is_ready()


def is_ready() -> bool:
    """Returns whether programs of this process can call these functions; waits for `prepare`."""
    if not _is_wanted() or not _preparation.cache_info().currsize:
        return False
    _preparation().join()
    return _register()


@functools.cache
def _register() -> bool:
    found = library()
    if found is None:
        return False
    functions = {
        _CONVOLVE: found.MclConvolve,
        _KERNEL_GRADIENT: found.MclKernelGradient,
        _DISTANCES: found.MclDistances,
    }
    for name, function in functions.items():
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(function), platform="cpu")
    if not _agrees_with_xla():
        logging.warning(
            "using XLA's convolutions, as mcl_jax's own give other numbers on this machine; please report it"
        )
        return False
    return True


def _agrees_with_xla() -> bool:
    """Returns whether a small convolution, its kernel's gradient and distances agree with XLA's."""
    rng = np.random.default_rng(0)
    x, kernel = (rng.standard_normal(shape, np.float32) for shape in ((2, 9, 10, 16), (3, 3, 16, 32)))

    @jax.jit
    def both(x: Array, kernel: Array) -> list[tuple[Array, Array]]:
        def by_xla(kernel: Array) -> Array:
            return lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
            )

        y, back = jax.vjp(by_xla, kernel)
        flat = y[0]
        apart = jnp.sqrt(jnp.square(flat[:, None] - flat[None]).sum(-1)).sum(-1)
        return [
            (convolve(x, kernel, before=(1, 1), size=(9, 10)), y),
            (kernel_gradient(x, y, kernel=(3, 3), stride=1, before=(1, 1)), back(y)[0]),
            (sum_distances(flat, flat, euclidean=True), apart),
        ]

    pairs = jax.device_get(both(x, kernel))
    return all(np.allclose(ours, xla, rtol=0, atol=1e-3 * np.abs(xla).max()) for ours, xla in pairs)


def convolve(
    x: Float[Array, "n h w c"],
    kernel: Float[Array, "kh kw c d"],
    *,
    stride: int = 1,
    before: tuple[int, int],
    size: tuple[int, int],
    bias: Float[Array, " d"] | None = None,
    residual: Float[Array, "n h2 w2 d"] | None = None,
    slope: float = 1.0,
) -> Float[Array, "n h2 w2 d"]:
    """Returns the convolution plus bias and residual; negative results are multiplied by the slope.

    Args:
        x: images.
        kernel: its weights.
        stride: in both directions.
        before: rows of zeros above an image and columns of zeros to its left; zeros fill the other sides.
        size: rows and columns of the output.
        bias: bias of each output channel.
        residual: array to add to the output.
        slope: 1 leaves negative numbers as they are, 0 makes a ReLU.
    """
    none = jnp.zeros(0, jnp.float32)
    shape = jax.ShapeDtypeStruct((len(x), *size, kernel.shape[-1]), jnp.float32)
    return jax.ffi.ffi_call(_CONVOLVE, shape, vmap_method="sequential")(
        x,
        kernel,
        none if bias is None else bias,
        none if residual is None else residual,
        stride=np.int64(stride),
        top=np.int64(before[0]),
        left=np.int64(before[1]),
        slope=np.float32(slope),
    )


def kernel_gradient(
    x: Float[Array, "n h w c"],
    gradient: Float[Array, "n h2 w2 d"],
    *,
    kernel: tuple[int, int],
    stride: int,
    before: tuple[int, int],
) -> Float[Array, "kh kw c d"]:
    """Returns the gradient of a convolution's kernel.

    Args:
        x: input of the convolution.
        gradient: gradient of the output.
        kernel: rows and columns of the kernel.
        stride: stride of the convolution.
        before: rows of zeros above an image, and columns to the left.
    """
    shape = jax.ShapeDtypeStruct((*kernel, x.shape[-1], gradient.shape[-1]), jnp.float32)
    return jax.ffi.ffi_call(_KERNEL_GRADIENT, shape, vmap_method="sequential")(
        x, gradient, stride=np.int64(stride), top=np.int64(before[0]), left=np.int64(before[1])
    )


def sum_distances(
    x: Float[Array, "n p c"], y: Float[Array, "m p c"], *, euclidean: bool
) -> Float[Array, "n m"]:
    """Returns the sum over parts of Euclidean distances, or of inner products.

    Args:
        x: embeddings, float32, as is y; see `is_ready`.
        y: embeddings.
        euclidean: whether to sum Euclidean distances.
    """
    shape = jax.ShapeDtypeStruct((len(x), len(y)), jnp.float32)
    return jax.ffi.ffi_call(_DISTANCES, shape, vmap_method="sequential")(x, y, euclidean=euclidean)
