"""Runs functions on each device that XLA cannot split by itself.

The mesh is the one set while a program is traced (`jax.sharding.use_abstract_mesh`), so it is part of JAX's
key for compiled programs. Without a mesh, each device computes the whole batch.
"""

from collections.abc import Callable

import jax
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array


def on_every_device(x: Array) -> Array:
    """Gathers a batch's array on every device, with one exchange between them."""
    if jax.sharding.get_abstract_mesh().size <= 1:
        return x
    return lax.with_sharding_constraint(x, PartitionSpec())


def rows_in_chunks(x: Array, chunks: int) -> Array:
    """Splits rows [r, …] into chunks [c, r / c, …]: row i goes to chunk i modulo c.

    So every chunk has rows of every device, which stay there, and what is in a chunk does not hang on the
    number of devices.
    """
    parts = x.reshape(len(x) // chunks, chunks, *x.shape[1:]).swapaxes(0, 1)
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.size <= 1:
        return parts
    return lax.with_sharding_constraint(parts, PartitionSpec(None, *mesh.axis_names))


def rows_of_chunks(parts: Array) -> Array:
    """Returns the rows [r, …] that `rows_in_chunks` split into [c, r / c, …]."""
    chunks, rows, *shape = parts.shape
    return parts.swapaxes(0, 1).reshape(chunks * rows, *shape)


def on_each_device(
    function: Callable[..., Array],
    split: tuple[Array | None, ...],
    whole: tuple[Array | None, ...],
    *,
    add: bool,
) -> Array:
    """Returns function(*split, *whole), computed on each device for its share of the batch.

    Without a mesh, or if the batch does not divide evenly, each device computes all of it.

    Args:
        function: maps images to images, or to a sum over images.
        split: arrays whose first axis is the batch; None is passed on.
        whole: arrays that every device gets whole.
        add: whether the result is a sum over images.
    """
    mesh = jax.sharding.get_abstract_mesh()
    images = next(len(x) for x in split if x is not None)
    if mesh.size <= 1 or images % mesh.size:
        return function(*split, *whole)
    (axis,) = mesh.axis_names
    here, everywhere = PartitionSpec(axis), PartitionSpec()
    return jax.shard_map(
        (lambda *arrays: lax.psum(function(*arrays), axis)) if add else function,
        in_specs=(here,) * len(split) + (everywhere,) * len(whole),
        out_specs=everywhere if add else here,
        check_vma=False,  # the C++ calls declare nothing about devices
    )(*split, *whole)
