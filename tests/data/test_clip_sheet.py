import cv2
import numpy as np

from mcl_jax.data.feed.clip_sheet import clip_sheet, encode_png


def test_the_sheet_has_clips_as_rows_and_frames_as_columns():
    frames = np.zeros((2, 4, 3, 2), np.uint8)
    frames[0, 0], frames[0, 2], frames[0, 3], frames[1, 0] = 10, 20, 30, 40
    batch = {
        "frames": frames,
        "segment_ids": np.array([[0, -1, 1, 1], [0, -1, -1, -1]]),
        "labels": np.array([[5, 6], [5, -1]]),
    }
    sheet = clip_sheet(batch, clips=3, frames=2)
    # A line of one pixel below each clip of height 3.
    assert sheet.shape == (12, 4)
    assert sheet[[0, 4, 8], 0].tolist() == [10, 20, 40]
    assert sheet[[0, 4, 8], 2].tolist() == [0, 30, 0]
    assert (sheet[[3, 7, 11]] == 128).all()
    assert clip_sheet(batch, clips=1, frames=2).shape == (4, 4)
    decoded = cv2.imdecode(np.frombuffer(encode_png(sheet), np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(decoded, sheet)


def test_maps_of_body_parts_are_visible():
    batch = {
        "frames": np.array([[[[0, 2], [5, 1]]]], np.uint8),
        "segment_ids": np.array([[0]]),
        "labels": np.array([[3]]),
    }
    assert clip_sheet(batch, frames=1, one=1)[:2].tolist() == [[0, 102], [255, 51]]
    assert clip_sheet(batch, frames=1)[:2].tolist() == [[0, 2], [5, 1]]


def test_names_are_written_beside_the_clips():
    batch = {
        "frames": np.zeros((2, 2, 30, 20), np.uint8),
        "segment_ids": np.array([[0, 0], [0, -1]]),
        "labels": np.array([[5], [6]]),
    }
    names = {(0, 0): "001 nm-01 090", (1, 0): "002 nm-01 090"}
    sheet = clip_sheet(batch, frames=3, names=names)
    assert np.array_equal(sheet[-62:, -60:], clip_sheet(batch, frames=3))
    assert (sheet[-62:, :-60] == 255).any()
