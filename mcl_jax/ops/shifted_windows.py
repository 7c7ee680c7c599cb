"""Windows over time and space of packed rows, for attention within each (Liu et al. 2022, Video Swin).

A window is 3 frames × 3 rows × 5 columns of tokens. Windows over time begin at a sequence's own first frame,
or in every second block one frame later. No window reaches into another sequence: a sequence begins at a
multiple of 3 slots, with an empty slot before the next.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

WINDOW = (3, 3, 5)
"""Frames, rows and columns of a window."""

SHIFT = (1, 1, 2)
"""How far the windows of every second block are shifted."""

TOKENS = WINDOW[0] * WINDOW[1] * WINDOW[2]
POSITIONS = (2 * WINDOW[0] - 1) * (2 * WINDOW[1] - 1) * (2 * WINDOW[2] - 1)
"""Number of different offsets between two tokens of a window."""

_BEFORE, _BEHIND = WINDOW[0] - SHIFT[0], SHIFT[0]  # slots that shifted windows add to a row


class Members(NamedTuple):
    """The slots of packed rows that attend to each other; made by `members_of`.

    Attributes:
        present: [r, s], whether a slot holds a frame.
        short: [r, s], whether its sequence has only one window, which is never shifted over time.
        straight: [r, s / 3, 3], the sequence that each slot of a window counts for, −1 for none. Empty
            slots fill up the last window of a longer sequence, and are attended to.
        shifted: [r, s / 3 + 1, 3], the same for shifted windows.
    """

    present: Bool[Array, "r s"]
    short: Bool[Array, "r s"]
    straight: Int[Array, "r t 3"]
    shifted: Int[Array, "r u 3"]


def members_of(segment_ids: Int[Array, "r s"]) -> Members:
    """Finds the windows of packed rows.

    Args:
        segment_ids: [rows, slots], a multiple of 3 slots; the sequence within its row, −1 at empty slots. A
            sequence begins at a multiple of 3, with at least one empty slot before the next.
    """
    rows, slots = segment_ids.shape
    windows = segment_ids.reshape(rows, slots // WINDOW[0], WINDOW[0])
    first = windows[:, :, 0]
    beside = jnp.pad(first, ((0, 0), (1, 1)), constant_values=-1)
    alone = (first >= 0) & (first != beside[:, :-2]) & (first != beside[:, 2:])
    present = segment_ids >= 0
    of_slots = jnp.broadcast_to(alone[:, :, None], windows.shape).reshape(rows, slots)
    short = of_slots & present
    fills = (windows < 0) & ~alone[:, :, None]
    straight = jnp.where(fills, first[:, :, None], windows)
    shifted = _moved(straight.reshape(rows, slots), short, -1)
    return Members(present, short, straight, shifted.reshape(rows, -1, WINDOW[0]))


def cut_windows(
    x: Float[Array, "r s h w c"], members: Members, *, shifted: bool
) -> Float[Array, "r t n 45 c"]:
    """Cuts rows of slots into windows, [rows, windows over time, windows over space, tokens, c]."""
    if shifted:
        x = jnp.roll(_moved(x, members.short, 0), (-SHIFT[1], -SHIFT[2]), axis=(2, 3))
    rows, slots, height, width, channels = x.shape
    down, across = height // WINDOW[1], width // WINDOW[2]
    x = x.reshape(rows, slots // WINDOW[0], WINDOW[0], down, WINDOW[1], across, WINDOW[2], channels)
    x = x.transpose(0, 1, 3, 5, 2, 4, 6, 7)
    return x.reshape(rows, slots // WINDOW[0], down * across, TOKENS, channels)


def join_windows(
    y: Float[Array, "r t n 45 c"], members: Members, grid: tuple[int, int], *, shifted: bool
) -> Float[Array, "r s h w c"]:
    """Puts windows back to rows of slots; undoes `cut_windows`.

    Args:
        y: windows.
        members: as for `cut_windows`.
        grid: rows and columns of tokens of a frame.
        shifted: as for `cut_windows`.
    """
    rows, windows, channels = y.shape[0], y.shape[1], y.shape[-1]
    down, across = grid[0] // WINDOW[1], grid[1] // WINDOW[2]
    y = y.reshape(rows, windows, down, across, *WINDOW, channels)
    y = y.transpose(0, 1, 4, 2, 5, 3, 6, 7).reshape(rows, windows * WINDOW[0], *grid, channels)
    if not shifted:
        return y
    slots = members.short.shape[1]
    y = jnp.roll(y, SHIFT[1:], axis=(2, 3))
    usual, late = y[:, _BEFORE : _BEFORE + slots], y[:, _BEFORE + 1 : _BEFORE + 1 + slots]
    return jnp.where(members.short[:, :, None, None, None], late, usual)


def _moved(x: Shaped[Array, "r s ..."], short: Bool[Array, "r s"], fill: int) -> Shaped[Array, "r z ..."]:
    """Returns rows shifted so that consecutive groups of 3 slots are the shifted windows.

    With two slots added in front, a window ends after a sequence's first frame. A sequence of one window
    moves one slot further, so that the next window holds all of it.
    """
    usual = (_BEFORE, _BEHIND)
    late = (_BEFORE + 1, _BEHIND - 1)

    def padded(y: Array, beside: tuple[int, int], value: int | bool) -> Array:
        return jnp.pad(y, ((0, 0), beside, *((0, 0),) * (y.ndim - 2)), constant_values=value)

    def by_slot(mask: Array) -> Array:
        return mask.reshape(*mask.shape, *(1,) * (x.ndim - 2))

    left = jnp.where(by_slot(padded(short, usual, False)), fill, padded(x, usual, fill))
    return jnp.where(by_slot(padded(short, late, False)), padded(x, late, fill), left)


def position_index() -> Int[np.ndarray, "45 45"]:
    """Returns the index of the offset between each query token and each key token."""
    places = np.stack(np.meshgrid(*map(np.arange, WINDOW), indexing="ij")).reshape(3, -1)
    apart = places[:, :, None] - places[:, None, :] + np.array(WINDOW)[:, None, None] - 1
    _, rows, columns = (2 * size - 1 for size in WINDOW)
    return (apart[0] * rows + apart[1]) * columns + apart[2]


def neighbours_in_space(grid: tuple[int, int]) -> Bool[np.ndarray, "n 45 45"]:
    """Returns which tokens of each shifted window are real neighbours in the frame.

    At an edge, a shifted window also holds tokens that were rolled there from the opposite edge.
    """
    regions = [
        np.digitize(np.arange(size), (size - window, size - shift))
        for size, window, shift in zip(grid, WINDOW[1:], SHIFT[1:], strict=True)
    ]
    region = 3 * regions[0][:, None] + regions[1][None, :]
    cut = region.reshape(grid[0] // WINDOW[1], WINDOW[1], grid[1] // WINDOW[2], WINDOW[2])
    tokens = np.tile(cut.transpose(0, 2, 1, 3).reshape(-1, WINDOW[1] * WINDOW[2]), WINDOW[0])
    return tokens[:, :, None] == tokens[:, None, :]
