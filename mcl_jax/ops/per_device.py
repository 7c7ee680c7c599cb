"""Runs functions on each device that XLA cannot split by itself.

The mesh is the one that JAX is told of while a program is traced (`jax.sharding.use_abstract_mesh`), so it is
part of the key under which JAX keeps programs. Without one, each device computes the whole batch.
"""

from collections.abc import Callable

import jax
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array


def on_every_device(x: Array) -> Array:
    """Returns a batch's array whole on every device, which costs one exchange between them."""
    if jax.sharding.get_abstract_mesh().size <= 1:
        return x
    return lax.with_sharding_constraint(x, PartitionSpec())


def on_each_device(
    function: Callable[..., Array],
    split: tuple[Array | None, ...],
    whole: tuple[Array | None, ...],
    *,
    add: bool,
) -> Array:
    """Returns function(*split, *whole), computed on each device for its share of the batch.

    Without a mesh, or where the devices cannot have equal shares, each computes all of it.

    Args:
        function: of images to images, or to a sum over them.
        split: arrays whose first axis is the batch's; None is passed on.
        whole: arrays that every device has.
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
        check_vma=False,  # calls of our own say nothing of devices
    )(*split, *whole)
