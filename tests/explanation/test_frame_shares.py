"""Which frames gave the maxima, by hand."""

import numpy as np

from mcl_jax.explanation.frame_shares import frame_shares
from mcl_jax.utils.strips import Strip, equal_strips


def test_frames_share_maxima_by_hand():
    features = np.zeros((3, 2, 1, 2))  # frames, rows, columns, channels
    features[1, 0, 0] = [
        5,
        1,
    ]  # the upper row: frame 1 gives the first channel, frames 1 and 2 share the other
    features[2, 0, 0] = [4, 1]
    shares = frame_shares(features, equal_strips((2, 1)))
    np.testing.assert_allclose(shares[0], [0, 0.75, 0.25])
    np.testing.assert_allclose(shares[1], [1 / 3] * 3)  # equal in all frames
    np.testing.assert_allclose(shares[2], shares[0])  # so that row counts for nothing in the whole frame


def test_a_strip_takes_half_of_the_row_that_it_halves():
    features = np.zeros((2, 3, 1))
    features[0, 0] = features[1, 1] = 1  # the last row is equal
    top, bottom = frame_shares(features, equal_strips((2,)))
    np.testing.assert_allclose(top, [1 / 1.5, 0.5 / 1.5])
    np.testing.assert_allclose(bottom, [0, 1])


def test_branches_stacked_in_height_have_rows_of_their_own():
    features = np.zeros((2, 4, 1))
    features[0, :2] = features[1, 2:] = 1
    strips = [Strip(0, 1, "a", (0, 2)), Strip(0, 1, "b", (1, 2)), Strip(0, 0.5, "b", (1, 2))]
    np.testing.assert_allclose(frame_shares(features, strips), [[1, 0], [0, 1], [0, 1]])
