"""Packed silhouettes are unpacked without loss, whole or frame by frame, for all pixel values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mcl_jax.data.stores.silhouette_codec import PackedFrames, pack
from mcl_jax.walkers import render_sequence

SIDES = st.integers(1, 9)
PIXELS = st.one_of(
    st.sampled_from([0, 255]),  # a silhouette without an edge
    st.sampled_from([0] * 20 + [255] * 20 + [1, 77, 254]),
    st.integers(0, 255),
)
FRAMES = st.tuples(st.integers(1, 5), SIDES, SIDES).flatmap(
    lambda shape: hnp.arrays(np.uint8, shape, elements=PIXELS)
)


@given(FRAMES, st.data())
def test_frames_come_back(frames, data):
    packed = PackedFrames(pack(frames))
    assert packed.shape == frames.shape
    assert len(packed) == len(frames)
    np.testing.assert_array_equal(packed[:], frames)
    np.testing.assert_array_equal(packed[:2], frames[:2])
    np.testing.assert_array_equal(np.stack(list(packed)), frames)
    chosen = np.array(data.draw(st.lists(st.integers(0, len(frames) - 1), min_size=1, max_size=8)))
    np.testing.assert_array_equal(packed[chosen], frames[chosen])


def test_hand_packed():
    frames = np.array([[[0, 255, 7], [255, 0, 0], [0, 0, 9]], [[0, 0, 0], [0, 0, 0], [0, 0, 255]]], np.uint8)
    content = pack(frames)
    # Height 3, width 3, 2 pixels listed; bits 010 100 000 and 000 000 001; places 2, 8 and 0, 0; values.
    assert content == (
        bytes([3, 0, 3, 0, 2, 0])
        + bytes([0b01010000, 0b0, 0b0, 0b10000000])
        + bytes([2, 0, 8, 0, 0, 0, 0, 0])
        + bytes([7, 9, 0, 0])
    )


def test_silhouettes_take_about_a_quarter():
    frames = render_sequence(0, 0, "nm-01", "090", frames=20)
    assert len(pack(frames)) < 0.3 * frames.nbytes


def test_grey_images_take_no_more_than_their_pixels():
    frames = np.random.default_rng(0).integers(1, 255, (3, 64, 64), np.uint8)
    assert len(pack(frames)) == frames.nbytes + 6


@pytest.mark.parametrize("content", [b"", b"\1\0", pack(np.zeros((2, 8, 8), np.uint8))[:-1]])
def test_anything_else_is_refused(content):
    with pytest.raises(ValueError, match=r"."):
        PackedFrames(content)


def test_a_place_outside_its_frame_is_refused():
    frames = np.zeros((2, 4, 4), np.uint8)
    frames[:, 1, 1] = 7
    content = bytearray(pack(frames))
    places = content.index(np.array([5, 5], "<u2").tobytes())
    content[places] = 16  # the first pixel of the second frame
    with pytest.raises(ValueError, match="not packed frames"):
        PackedFrames(bytes(content))


@pytest.mark.parametrize("header", [(65535, 65535, 0), (65535, 65535, 65535), (0, 0, 65534), (64, 64, 65534)])
def test_a_header_cannot_claim_more_than_the_content(header):
    content = np.array(header, "<u2").tobytes() + bytes(65534 * 3 * 2)
    try:
        frames = PackedFrames(content)
    except ValueError:
        return
    # No frames of that size, or as many of no pixels as there are bytes: check_frames refuses both.
    assert frames.shape[0] == 0 or 0 in frames.shape
