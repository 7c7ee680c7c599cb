"""Which devices a batch is split over, for what XLA cannot split by itself: calls of our own code."""

import contextvars
from collections.abc import Callable
from contextlib import AbstractContextManager

import jax
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from mcl_jax.models.switches import switched

_MESH = contextvars.ContextVar[Mesh | None]("mesh", default=None)


def split_over(mesh: Mesh) -> AbstractContextManager[None]:
    """Models that are traced inside have the rows of their batch split over the one axis of the mesh."""
    return switched(_MESH, mesh)


def on_every_device(x: Array) -> Array:
    """Returns a batch's array whole on every device, which costs one exchange between them."""
    mesh = _MESH.get()
    if mesh is None or mesh.size == 1:
        return x
    return lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec()))


def on_each_device(
    function: Callable[..., Array],
    split: tuple[Array | None, ...],
    whole: tuple[Array | None, ...],
    *,
    add: bool,
) -> Array:
    """Returns function(*split, *whole), each device computing what it has of the batch.

    Without `split_over`, or where the devices cannot have equal shares, each computes all of it.

    Args:
        function: of images to images, or to a sum over them.
        split: arrays whose first axis is the batch's; None is passed on.
        whole: arrays that every device has.
        add: whether the result is a sum over images.
    """
    mesh = _MESH.get()
    images = next(len(x) for x in split if x is not None)
    if mesh is None or mesh.size == 1 or images % mesh.size:
        return function(*split, *whole)
    (axis,) = mesh.axis_names
    here, everywhere = PartitionSpec(axis), PartitionSpec()
    return jax.shard_map(
        (lambda *arrays: lax.psum(function(*arrays), axis)) if add else function,
        mesh=mesh,
        in_specs=(here,) * len(split) + (everywhere,) * len(whole),
        out_specs=everywhere if add else here,
        check_vma=False,  # calls of our own say nothing of devices
    )(*split, *whole)
