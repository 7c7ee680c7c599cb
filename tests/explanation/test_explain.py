"""The model in the package on walkers where the truth is known: a bag, one other frame."""

import re

import numpy as np
import pytest

import mcl_jax
from mcl_jax.errors import DataError
from mcl_jax.evaluation.distances import part_distances
from mcl_jax.evaluation.explanation import Explanation
from mcl_jax.evaluation.page.explanation_page import explanation_page
from mcl_jax.explanation.explain import MOST_FRAMES, Explainer, check_length, derivative_of
from mcl_jax.explanation.probing import probe_of
from mcl_jax.walkers import WalkerStyle, render_sequence

FRAMES = 20  # of every walk, so that one program is compiled


@pytest.fixture(scope="module")
def gait() -> mcl_jax.Gait:
    return mcl_jax.load()


@pytest.fixture(scope="module")
def walker() -> np.ndarray:
    return walk_of(0)


def walk_of(subject: int) -> np.ndarray:
    walk = render_sequence(7, subject, "nm-01", "090", FRAMES, WalkerStyle(), 8.0)
    return np.ascontiguousarray(walk[:, :, 10:-10] if walk.shape[2] == 64 else walk)


def with_bag(walk: np.ndarray) -> np.ndarray:
    """The same walk with a bag at the back, from row 24 to row 36."""
    changed = walk.copy()
    changed[:, 24:36, 26:38] = 255
    return changed


@pytest.fixture(scope="module")
def explained(gait):
    explainer = gait.program(Explainer)

    def explain(a: np.ndarray, b: np.ndarray, metric: str = "euc", name: str = "b") -> Explanation:
        return explainer.explain([a, b], ["a", name], gait.embed([a, b]), metric=metric)

    return explain


@pytest.mark.parametrize("metric", ["euc", "cos"])
def test_the_parts_that_change_are_those_at_the_height_of_the_bag(gait, explained, walker, metric):
    top, bottom = 24, 36
    found = explained(walker, with_bag(walker), metric)
    x = gait.embed([walker, with_bag(walker)])
    assert found.distances.mean() == pytest.approx(mcl_jax.distances(x[0], x[1], metric=metric), rel=1e-4)
    centres = np.array([64 * (strip.top + strip.bottom) / 2 for strip in found.strips])
    inside = (centres > top) & (centres < bottom)
    beside = (centres > top - 8) & (centres < bottom + 8)  # convolutions look that far
    assert inside[found.distances.argmax()]
    assert found.distances[inside].mean() > 2 * found.distances[~beside].mean()


def test_the_pixels_that_matter_are_those_of_the_bag(explained, walker):
    found = explained(walker, with_bag(walker))
    rows = found.walks[0].saliency.sum(axis=(0, 2))
    assert rows[16:44].mean() > 1.2 * rows.mean()  # convolutions look as far


@pytest.mark.parametrize("metric", ["euc", "cos"])
def test_the_derivative_is_the_slope(metric):
    x, y, direction = np.random.default_rng(2).standard_normal((3, 4, 6))

    def scalar(x: np.ndarray) -> float:
        parts = part_distances(x, y, metric=metric)
        return float(np.mean(parts**2 if metric == "euc" else parts))

    step = 1e-5 * direction
    slope = (scalar(x + step) - scalar(x - step)) / 2e-5
    assert (derivative_of(x, y, metric) * direction).sum() == pytest.approx(slope, rel=1e-6)


@pytest.mark.slow
def test_the_gradient_is_the_slope_of_the_embedding(gait):
    """With frames of noise: where features tie for a maximum, as in silhouettes, there is no one slope."""
    walk = np.random.default_rng(0).integers(40, 216, (6, 64, 44), np.uint8)
    derivative = np.random.default_rng(3).standard_normal((16, 64))
    gradient = gait.program(probe_of)(walk, derivative).gradient
    strongest = np.abs(gradient) >= np.sort(np.abs(gradient), axis=None)[-300]
    step = np.where(strongest, np.sign(gradient), 0).astype(np.int64)
    up, down = gait.embed([(walk + sign * step).astype(np.uint8) for sign in (1, -1)]).astype(np.float64)
    assert ((up - down) * derivative).sum() == pytest.approx((gradient * step).sum() * 2 / 255, rel=0.1)


def test_the_only_frame_that_differs_counts_most(explained, walker):
    for different in (3, 16):
        still = np.repeat(walker[:1], FRAMES, axis=0)
        still[different] = walk_of(1)[5]
        found = explained(still, walker)
        shares = found.walks[0].shares
        assert (shares[:, different] >= shares.max(axis=1)).all()
        assert np.median(shares[:, different]) > 0.3
        assert found.reach == 0


def test_a_page_is_the_same_again_asks_for_nothing_and_escapes_names(explained, walker):
    evil = "</style><script>alert(1)</script>\udcff.pkl"
    pages = [
        explanation_page(explained(walker, with_bag(walker), name=evil), {"distance": "<b>"})
        for _ in range(2)
    ]
    assert pages[0] == pages[1]
    text = pages[0].decode()
    assert "<script" not in text
    assert "<b>" not in text.split("<main")[0]
    addresses = re.findall(r'(?:src|href)="([^"]{1,5})', text)
    assert {address[0] if address[0] == "#" else address for address in addresses} == {"#", "data:"}
    assert len(pages[0]) < 1_000_000


def test_of_equal_walks_no_pixel_matters(explained, walker):
    page = explanation_page(explained(walker, walker), {}).decode()
    assert "No pixel matters" in page


def test_a_long_walk_is_refused_in_one_line():
    check_length("b", MOST_FRAMES)
    with pytest.raises(
        DataError, match="b: has 301 frames, too many to explain; give a piece of it of at most"
    ):
        check_length("b", MOST_FRAMES + 1)
