"""Runs a model on one walk for an explanation: the gradient of its pixels, the features of its frames."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mcl_jax.models.layers import kept_frames
from mcl_jax.models.registry import Model
from mcl_jax.runtime.settings import compiler_options
from mcl_jax.utils.pytrees import ArrayTree

SLOTS = 24
"""A row's slots are a multiple of this, so that walks of near lengths share a program."""

_CHANGED = 1e-5  # of the largest feature: more than rounding


class Probed(NamedTuple):
    """Gradient and features of one walk in a model.

    Attributes:
        gradient: float32 [s, h, w], of the scalar whose derivative by the embedding was given.
        features: of each maximum over time, the features [t, height, ...] it was taken of, where t frames, or
            groups of `group` frames, were pooled; empty if the model takes none.
        group: frames of one of them, 1 unless the model has a stride over time.
    """

    gradient: np.ndarray
    features: list[np.ndarray]
    group: int


Probe = Callable[[np.ndarray, np.ndarray], Probed]
"""Frames uint8 [s, h, w], or floats in [0, 1], and the derivative [parts, channels] → what the model did."""


def probe_of(model: Model, params: ArrayTree, batch_stats: ArrayTree) -> Probe:
    """Returns a function that runs the model on one walk, there and back."""

    @jax.jit(compiler_options=compiler_options())
    def run(
        params: ArrayTree, batch_stats: ArrayTree, frames: jax.Array, ids: jax.Array, derivative: jax.Array
    ) -> tuple[jax.Array, list[tuple[jax.Array, jax.Array]]]:
        def embed(frames: jax.Array) -> tuple[jax.Array, list[tuple[jax.Array, jax.Array]]]:
            module = model.merge(params, batch_stats, remat=True, portable=True, keeps_frames=True)
            output = module(frames, ids, num_segments=1, train=False)
            return output.embeddings[0].astype(jnp.float32), kept_frames(module)

        _, back, kept = jax.vjp(embed, frames, has_aux=True)
        return back(derivative)[0], kept

    def probe(frames: np.ndarray, derivative: np.ndarray) -> Probed:
        walk = frames / np.float32(255) if frames.dtype == np.uint8 else frames
        slots = -(-(len(walk) + 1) // SLOTS) * SLOTS
        padded = np.zeros((1, slots, *walk.shape[1:]), np.float32)
        padded[0, : len(walk)] = walk
        ids = np.where(np.arange(slots) < len(walk), 0, -1).astype(np.int32)[None]
        gradient, kept = jax.device_get(run(params, batch_stats, padded, ids, derivative.astype(np.float32)))
        # A model may take a maximum of what is one thing for each walk: that is none over frames.
        over_time = [(x[0], own[0] >= 0) for x, own in kept if x.shape[1] > 1]
        group = max([slots // len(x) for x, _ in over_time], default=1)
        return Probed(gradient[0, : len(walk)], [x[own] for x, own in over_time], max(group, 1))

    return probe


def reach_of(probe: Probe, walk: np.ndarray, probed: Probed, derivative: np.ndarray) -> int:
    """Returns how many frames before and after a frame its features depend on.

    The middle frame is changed, and frames are counted whose features change.

    Args:
        probe: of the model.
        walk: uint8 [s, h, w].
        probed: what it did with the walk.
        derivative: of the same shape as before; changes nothing.
    """
    middle = len(walk) // 2
    changed = walk / np.float32(255)
    changed[middle] = 1 - changed[middle]
    reach = 0
    for before, after in zip(probed.features, probe(changed, derivative).features, strict=True):
        moved = np.abs(after - before).reshape(len(before), -1).max(axis=1)
        slots = np.flatnonzero(moved > _CHANGED * np.abs(before).max())
        apart = np.abs(slots - middle // probed.group) * probed.group
        reach = max(reach, int(apart.max(initial=0)))
    return reach
