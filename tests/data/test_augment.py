"""Transforms: hand-made clips, distributions, and the reference's figures if available."""

import math

import cv2
import numpy as np
import pytest

from mcl_jax.data.feed import augment
from mcl_jax.data.feed.augment import Augmentation, cut
from mcl_jax.errors import ConfigError

CLIP = np.random.default_rng(0).integers(0, 256, (5, 64, 64), np.uint8)


def test_cut_drops_ten_columns_once():
    assert np.array_equal(augment.cut(CLIP), CLIP[:, :, 10:54])
    assert np.array_equal(augment.cut(augment.cut(CLIP)), CLIP[:, :, 10:54])


def test_flip_mirrors():
    assert np.array_equal(augment.flip(CLIP)[2, 3], CLIP[2, 3, ::-1])


@pytest.mark.parametrize("count", [1, 3, 4, 5, 9])
def test_a_clip_is_warped_like_its_single_frames(count):
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


def test_rotations_are_uniform_in_both_directions(monkeypatch):
    degrees = []
    monkeypatch.setattr(augment, "rotate", lambda clip, degree: degrees.append(degree) or clip)
    for most, entry in ((10, ("rotate", 1.0)), (25, ("rotate", 1.0, {"degree": 25.0}))):
        degrees.clear()
        run = Augmentation((("cut", 1.0), entry))
        rng = np.random.default_rng(0)
        for _ in range(2000):
            run(rng, CLIP)
        counts, _ = np.histogram(degrees, bins=4, range=(-most, most))
        assert sum(counts) == 2000
        assert counts == pytest.approx(np.full(4, 500), rel=0.15)


def test_corners_are_within_ten_columns_of_the_edges(monkeypatch):
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


def test_erased_boxes_have_the_area_and_aspect_of_the_config():
    run = Augmentation((("cut", 1.0), ("erase", 1.0, {"min_area": 0.3, "max_area": 0.4, "aspect": 0.9})))
    clip = np.full((1, 64, 64), 255, np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(100):
        rows, columns = np.nonzero(run(rng, clip)[0] == 0)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert 0.28 < height * width / (64 * 44) < 0.42
        assert 0.85 < height / width < 1.18


def test_per_frame_each_frame_is_erased_by_its_own_chance():
    clip = np.full((40, 64, 64), 255, np.uint8)
    run = Augmentation((("cut", 1.0), ("erase", 0.3, {"per_frame": True})))
    rng = np.random.default_rng(0)
    frames = np.concatenate([run(rng, clip) for _ in range(25)])
    erased = frames[(frames == 0).any(axis=(1, 2))]
    assert len(erased) / len(frames) == pytest.approx(0.3, abs=0.04)
    assert len(np.unique(erased, axis=0)) > 0.95 * len(erased)


def test_affine_moves_three_points_each_by_less_than_ten_pixels(monkeypatch):
    points = []
    monkeypatch.setattr(augment, "affine", lambda clip, *pair: points.append(pair) or clip)
    run = Augmentation((("cut", 1.0), ("affine", 1.0)))
    rng = np.random.default_rng(0)
    for _ in range(1000):
        run(rng, CLIP)
    # Near (0, 0), (64, 0) and (0, 44): the height stands where the width should, as in the reference.
    assert np.min(points, axis=(0, 1)).tolist() == [[0, 0], [55, 0], [0, 35]]
    assert np.max(points, axis=(0, 1)).tolist() == [[9, 9], [64, 9], [9, 44]]


def test_affine_moves_points_to_their_targets():
    clip = np.zeros((5, 64, 44), np.uint8)
    clip[:, 20:25, 10:15] = 255
    source = np.array([[0, 0], [64, 0], [0, 44]])
    moved = augment.affine(clip, source, source + np.array([3, -2]))  # all points alike: a plain shift
    assert np.array_equal(moved[:, 18:23, 13:18], clip[:, 20:25, 10:15])
    assert moved.sum() == clip.sum()


def test_defaults_of_parameters_do_not_change_draws():
    run = Augmentation((("perspective", 0.5), ("cut", 1.0), ("flip", 0.5), ("rotate", 0.5), ("erase", 0.5)))
    rng = np.random.default_rng(7)
    clips = [run(rng, CLIP) for _ in range(200)]
    assert rng.random() == 0.1891856099883762
    # Interpolated grey levels may round otherwise in other versions of OpenCV.
    assert sum(int(clip.sum()) for clip in clips) == pytest.approx(328_750_609, rel=1e-4)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ((("blur", 0.2), ("cut", 1.0)), "data.augment: no 'blur'; there are perspective, cut"),
        ((("cut", 1.0), ("flip", 0.5, {"degree": 3})), "data.augment.flip.degree: flip has no such argument"),
        (
            (("cut", 1.0), ("rotate", 0.5, {"degree": -3})),
            "data.augment.rotate.degree: is -3; must not be neg",
        ),
        ((("cut", 1.0), ("rotate", 0.5, {"degree": "far"})), "rotate.degree: is far; expected a number"),
        ((("cut", 1.0), ("erase", 0.5, {"min_area": 0.3})), "erase has min_area 0.3, max_area 0.2 and"),
        ((("cut", 1.0), ("erase", 0.5, {"per_frame": 1})), "per_frame: is 1; expected True or False"),
        ((("cut", 1.0), ("flip", 0.5, 3)), "is no valid entry; expected"),
        ((("cut", 1.0), "flip"), "'flip' is no valid entry; expected"),
        ((("cut", 1.0), ("flip", "often")), "probability of flip is often"),
        ((("cut", 1.0), ("flip", 1.5)), "probability of flip is 1.5"),
        ((("flip", 0.5),), "must hold"),
        ((("cut", 1.0), ("perspective", 0.2)), "perspective must come before cut"),
    ],
)
def test_invalid_settings_are_named(steps, message):
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


def test_frames_of_128_columns_are_cut_to_88():
    clip = np.arange(128, dtype=np.uint8)[None, None].repeat(128, axis=1)
    whole = cut(clip)
    assert whole.shape == (1, 128, 88)
    assert (whole[0, 0, 0], whole[0, 0, -1]) == (20, 107)
    assert cut(whole).shape == (1, 128, 88)


def test_transforms_reach_as_far_into_larger_frames_in_proportion(monkeypatch):
    reaches = []

    class Generator:
        def integers(self, low, high, size):
            reaches.append(high)
            return np.full(size, high - 1)

    augment.Perspective()(Generator(), np.zeros((1, 64, 64), np.uint8))
    augment.Affine()(Generator(), np.zeros((1, 64, 44), np.uint8))
    monkeypatch.setattr(augment, "perspective", lambda clip, corners: corners)
    corners = augment.Perspective()(Generator(), np.zeros((1, 128, 128), np.uint8))
    augment.Affine()(Generator(), np.zeros((1, 128, 88), np.uint8))
    assert reaches == [10, 10, 20, 20]
    assert corners.tolist() == [19, 127, 19, 127]
