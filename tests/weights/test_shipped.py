"""The model in the package: it loads, gives a known embedding, and distinguishes synthetic people."""

import numpy as np
import pytest

import mcl_jax
from mcl_jax.walkers import WalkerStyle, render_sequence
from mcl_jax.weights.packed import SHIPPED

STYLE = WalkerStyle(noise=0.7, everyday=1.0, wardrobe=0.7)
EXPECTED = [0.0897, 0.0144, 0.0261, 0.0400]


@pytest.fixture(scope="module")
def gait() -> mcl_jax.Gait:
    return mcl_jax.load()


def walk(subject: int, condition: str) -> np.ndarray:
    return render_sequence(7, subject, condition, "090", 16, STYLE, 8.0)


def test_it_is_small_and_says_what_it_is(gait):
    assert SHIPPED.stat().st_size < 3_000_000
    assert (gait.name, gait.step, gait.parts, gait.channels) == ("gaitpocket", 2600, 16, 64)
    rates = sorted(gait.thresholds)
    assert rates == [0.0001, 0.001, 0.01, 0.1]
    assert sorted(gait.thresholds.values()) == [gait.thresholds[rate] for rate in rates]


def test_a_fixed_walk_has_the_embedding_that_it_had(gait):
    x = gait.embed(walk(0, "nm-01"))[0]
    np.testing.assert_allclose(np.linalg.norm(x, axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(x[[0, 5, 10, 15], 0], EXPECTED, atol=2e-3)


def test_people_it_has_never_seen_are_told_apart(gait):
    """Of another seed than in training; by chance one of the twenty answers would be right."""
    first, second = (gait.embed([walk(s, c) for s in range(20)]) for c in ("nm-01", "nm-02"))
    distances = mcl_jax.distances(second, first)
    right = distances.argmin(axis=1) == np.arange(20)
    assert right.sum() >= 14
    same = np.eye(20, dtype=bool)
    assert np.median(distances[same]) < gait.thresholds[0.1] < np.median(distances[~same])
