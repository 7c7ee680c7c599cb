"""Transforms against hand-made clips, their distributions, and the reference's figures where at hand."""

import math

import cv2
import numpy as np
import pytest

from mcl_jax.data.feed import augment
from mcl_jax.data.feed.augment import Augmentation
from mcl_jax.errors import ConfigError

CLIP = np.random.default_rng(0).integers(0, 256, (5, 64, 64), np.uint8)


def test_cut_drops_ten_columns_once():
    assert np.array_equal(augment.cut(CLIP), CLIP[:, :, 10:54])
    assert np.array_equal(augment.cut(augment.cut(CLIP)), CLIP[:, :, 10:54])


def test_flip_mirrors():
    assert np.array_equal(augment.flip(CLIP)[2, 3], CLIP[2, 3, ::-1])


@pytest.mark.parametrize("count", [1, 3, 4, 5, 9])
def test_a_warp_of_a_clip_is_that_of_its_frames(count):
    clip = np.resize(CLIP[:, :, :44], (count, 64, 44))
    matrix = cv2.getRotationMatrix2D((32, 22), 7.0, 1)
    expected = [cv2.warpAffine(frame, matrix, (44, 64)) for frame in clip]
    assert np.array_equal(augment.rotate(clip, 7.0), expected)


def test_rotation_keeps_its_centre_and_is_counter_clockwise():
    clip = np.zeros((1, 64, 44), np.uint8)
    clip[0, 22, 32] = 255
    assert augment.rotate(clip, 10.0)[0, 22, 32] == 255
    clip[0, 22, 42] = 255  # right of the centre goes up
    rotated = augment.rotate(clip, 10.0)[0]
    assert rotated[:22, 40:].sum() > rotated[23:, 40:].sum()


def test_perspective_of_the_full_frame_changes_nothing():
    assert np.array_equal(augment.perspective(CLIP, (0, 64, 0, 64)), CLIP)


def test_perspective_stretches_the_narrow_edge():
    clip = np.zeros((1, 64, 64), np.uint8)
    clip[:, :, 9:55] = 255
    stretched = augment.perspective(clip, (9, 54, 0, 63))
    assert (stretched[0, 0] > 200).mean() > 0.95
    assert (stretched[0, 63] > 200).mean() < 0.75


def test_erase_zeroes_one_box_and_leaves_the_input():
    before = CLIP.copy()
    erased = augment.erase(CLIP, top=3, left=5, height=2, width=4)
    assert not erased[:, 3:5, 5:9].any()
    assert np.array_equal(CLIP, before)
    erased[:, 3:5, 5:9] = CLIP[:, 3:5, 5:9]
    assert np.array_equal(erased, CLIP)


def test_draws_follow_the_configured_probabilities():
    clip = np.full((2, 64, 64), 255, np.uint8)
    clip[:, :, 40:] = 0
    plain = augment.cut(clip)
    rng = np.random.default_rng(0)
    for steps, expected in (
        ((("cut", 1.0), ("rotate", 0.3)), 0.3),
        ((("cut", 1.0), ("erase", 0.3)), 0.3),
        ((("perspective", 0.2), ("cut", 1.0)), 0.2),
        ((("cut", 1.0), ("flip", 0.2)), 0.2),
        ((("cut", 1.0),), 0.0),
    ):
        run = Augmentation(steps)
        changed = [not np.array_equal(run(rng, clip), plain) for _ in range(1000)]
        assert np.mean(changed) == pytest.approx(expected, abs=0.04), steps


def test_erased_boxes_have_the_stated_area_and_aspect():
    run = Augmentation((("cut", 1.0), ("erase", 1.0)))
    clip = np.full((1, 64, 64), 255, np.uint8)
    rng = np.random.default_rng(0)
    areas, aspects = [], []
    for _ in range(500):
        rows, columns = np.nonzero(run(rng, clip)[0] == 0)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert len(rows) == height * width
        areas.append(height * width / (64 * 44))
        aspects.append(height / width)
    assert 0.04 < min(areas) < 0.07
    assert 0.17 < max(areas) < 0.21
    assert 0.25 < min(aspects) < 0.5
    assert 2.5 < max(aspects) < 3.7
    # Uniform in area, but a wide box is drawn again where it does not fit.
    assert np.mean(areas) == pytest.approx(0.125, abs=0.01)


def test_rotations_are_uniform_to_either_side(monkeypatch):
    degrees = []
    monkeypatch.setattr(augment, "rotate", lambda clip, degree: degrees.append(degree) or clip)
    run = Augmentation((("cut", 1.0), ("rotate", 1.0)))
    rng = np.random.default_rng(0)
    for _ in range(2000):
        run(rng, CLIP)
    counts, _ = np.histogram(degrees, bins=4, range=(-10, 10))
    assert counts == pytest.approx(np.full(4, 500), rel=0.15)


def test_corners_are_drawn_within_ten_columns(monkeypatch):
    corners = []
    monkeypatch.setattr(augment, "perspective", lambda clip, c: corners.append(c) or clip)
    run = Augmentation((("perspective", 1.0), ("cut", 1.0)))
    rng = np.random.default_rng(0)
    for _ in range(1000):
        run(rng, CLIP)
    assert np.min(corners, axis=0).tolist() == [0, 54, 0, 54]
    assert np.max(corners, axis=0).tolist() == [9, 63, 9, 63]


def test_frames_already_cut_are_trained_without_perspective():
    run = Augmentation((("perspective", 1.0), ("cut", 1.0)))
    narrow = augment.cut(CLIP)
    assert np.array_equal(run(np.random.default_rng(0), narrow), narrow)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ((("blur", 0.2), ("cut", 1.0)), "no transform 'blur'"),
        ((("cut", 1.0), ("flip", 1.5)), "probability of flip is 1.5"),
        ((("flip", 0.5),), "must hold"),
        ((("cut", 1.0), ("perspective", 0.2)), "perspective must come before cut"),
    ],
)
def test_impossible_settings_are_named(steps, message):
    with pytest.raises(ConfigError, match=message):
        Augmentation(steps)


def test_figures_of_the_reference(shared_parity):
    figures = np.load(shared_parity / "augment.npz")
    raw, cut = figures["raw"], figures["cut"]
    assert augment.cut(raw) / 255 == pytest.approx(cut, abs=1e-6)
    assert np.array_equal(augment.flip(cut), figures["flip/out"])
    for i in range(3):
        degree, expected = float(figures[f"rotate/{i}/degree"]), figures[f"rotate/{i}/out"]
        assert augment.rotate(cut, degree) == pytest.approx(expected, abs=1e-5)
        # As the pipeline runs it, on uint8: within one grey level.
        grey = augment.rotate(augment.cut(raw), degree).astype(float)
        assert np.abs(grey - 255 * expected).max() <= 1
    for i in range(2):
        corners = figures[f"perspective/{i}/tl_tr_bl_br"]
        assert np.array_equal(augment.perspective(raw, corners), figures[f"perspective/{i}/out"])
        area, aspect, top, left = figures[f"erase/{i}/area_aspect_x_y"]
        pixels = area * cut[0].size
        height, width = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
        erased = augment.erase(cut, int(top), int(left), height, width)
        assert erased == pytest.approx(figures[f"erase/{i}/out"], abs=1e-6)
