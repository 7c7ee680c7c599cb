"""Shifted windows over packed rows against hand-computed values."""

import jax.numpy as jnp
import numpy as np
import pytest

from mcl_jax.ops.shifted_windows import (
    cut_windows,
    join_windows,
    members_of,
    neighbours_in_space,
    position_index,
)

# Sequences of 4, 2 and 3 frames, each from a multiple of 3 on.
IDS = jnp.array([[0, 0, 0, 0, -1, -1, 1, 1, -1, 2, 2, 2, -1, -1, -1]])


def test_a_window_is_of_one_sequence_which_fills_up_its_last():
    members = members_of(IDS)
    assert members.straight.tolist() == [[[0, 0, 0], [0, 0, 0], [1, 1, -1], [2, 2, 2], [-1, -1, -1]]]
    # One frame later, but not where a sequence has a single window.
    assert members.shifted.tolist() == [
        [[-1, -1, 0], [0, 0, 0], [0, 0, -1], [1, 1, -1], [2, 2, 2], [-1, -1, -1]]
    ]
    assert members.short.tolist() == [[False] * 6 + [True, True, False, True, True, True] + [False] * 3]


@pytest.mark.parametrize("shifted", [False, True])
def test_windows_are_put_back_where_they_were(shifted):
    members = members_of(IDS)
    x = jnp.arange(1 * 15 * 6 * 10 * 2, dtype=jnp.float32).reshape(1, 15, 6, 10, 2)
    x = jnp.where(members.present[:, :, None, None, None], x, 0)
    windows = cut_windows(x, members, shifted=shifted)
    assert windows.shape == (1, 6 if shifted else 5, 4, 45, 2)
    first = windows[0, 1, 0].reshape(3, 3, 5, 2)
    if shifted:
        assert jnp.array_equal(first, x[0, 1:4, 1:4, 2:7])
    else:
        assert jnp.array_equal(first, x[0, 3:6, :3, :5])
    back = join_windows(windows, members, (6, 10), shifted=shifted)
    assert jnp.array_equal(back[members.present], x[members.present])


def test_positions_are_numbered_by_their_differences():
    index = position_index()
    assert index.shape == (45, 45)
    assert index[0, 0] == 2 * 45 + 2 * 9 + 4
    assert (index[0, 44], index[44, 0]) == (0, 224)
    assert index[5, 0] - index[0, 0] == 9  # one row further down
    assert index[15, 0] - index[0, 0] == 45  # one frame later


def test_what_was_rolled_from_the_opposite_edge_is_not_near():
    near = neighbours_in_space((6, 10))
    assert near.shape == (4, 45, 45)
    assert near[0].all()  # the window at the top left has nothing rolled in
    rows, columns = np.divmod(np.arange(15), 5)
    expected = ((rows < 2)[:, None] == (rows < 2)) & ((columns < 3)[:, None] == (columns < 3))
    assert np.array_equal(near[3], np.tile(expected, (3, 3)))
