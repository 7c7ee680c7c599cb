"""The page for models of every kind: parts at several scales and in two branches, or not known."""

import numpy as np

from mcl_jax.evaluation.distances import distances, part_distances
from mcl_jax.evaluation.explanation import ExplainedWalk, Explanation
from mcl_jax.evaluation.page.explanation_page import explanation_page
from mcl_jax.utils.strips import equal_strips

SET = equal_strips((4, 2, 1), "frame") + equal_strips((4, 2, 1), "global")
STACKED = equal_strips((4,), "global", (0, 2)) + equal_strips((4,), "local", (1, 2))


def walk(shares, group=1) -> ExplainedWalk:
    frames = np.zeros((6, 64, 44), np.uint8)
    frames[:, 10:60, 10:30] = 255
    saliency = np.zeros(frames.shape, np.float32)
    saliency[2, 20, 20] = 1
    return ExplainedWalk("walk", frames, shares, group, saliency)


def page(strips, shares=None, group=1, parts=None) -> str:
    given = np.arange(1.0, (parts or len(strips)) + 1)
    explained = Explanation((walk(shares, group), walk(shares, group)), "some", given, strips, 2)
    return explanation_page(explained, {}).decode()


def test_parts_at_several_scales_are_columns_of_bars():
    text = page(SET, np.tile([0.5, 0.1, 0.1, 0.1, 0.1, 0.1], (14, 1)))
    assert text.count('class="bars"') == 6
    assert '<div class="bars"><span style="top:0%;height:25%"' in text
    assert "<p>frame branch, 4 strips</p>" in text
    assert 'top:50%;height:50%" title="strip 2 of 2 from the top: 6"' in text
    assert text.count('class="shares"') == 2  # both branches are made of the same maxima: once for each walk
    assert "up to 2 frames before and after" in text


def test_branches_with_maxima_of_their_own_are_shown_each():
    shares = np.zeros((8, 2))
    shares[:4, 0] = shares[4:, 1] = 1
    text = page(STACKED, shares, group=3)
    assert text.count('class="shares"') == 4
    assert "<h3>Local branch</h3>" in text
    assert "frame 1–3<br>100 %" in text
    assert "3 frames that the model joins" in text


def test_a_model_without_maxima_over_frames_gets_one_line_for_them():
    text = page(equal_strips((4,)))
    assert "some takes no maximum over frames" in text
    assert 'class="shares"' not in text


def test_a_model_that_does_not_say_where_its_parts_are_gets_the_table_alone():
    text = page((), parts=3)
    assert "some does not say where its parts lie" in text
    assert 'class="bars"' not in text
    assert text.count("not known") == 4  # of three parts, and of their frames


def test_distances_of_parts_have_the_mean_that_is_the_distance():
    x, y = np.random.default_rng(0).standard_normal((2, 5, 7)).astype(np.float32)
    for metric in ("euc", "cos"):
        parts = part_distances(x, y, metric=metric)
        np.testing.assert_allclose(parts.mean(), distances(x, y, metric=metric), rtol=1e-5)
