import numpy as np
import pytest

from mcl_jax.errors import DataError
from mcl_jax.evaluation.distances import pairwise_distances
from mcl_jax.gallery.search import Search


@pytest.mark.parametrize("metric", ["euc", "cos"])
def test_distances_are_those_of_the_scoring(metric, monkeypatch):
    monkeypatch.setattr("mcl_jax.gallery.search._AT_ONCE", 4)
    rng = np.random.default_rng(0)
    rows, walk = rng.standard_normal((9, 3, 5), np.float32), rng.standard_normal((3, 5), np.float32)
    found = Search(rows, metric=metric).distances(walk)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, pairwise_distances(walk[None], rows, metric=metric)[0], atol=2e-6)


def test_by_hand():
    rows = np.array([[[3, 4], [0, 1]], [[0, 0], [0, 0]]], np.float32)
    walk = np.array([[3, 0], [0, 1]], np.float32)
    np.testing.assert_allclose(Search(rows, metric="euc").distances(walk), [(4 + 0) / 2, (3 + 1) / 2])
    np.testing.assert_allclose(Search(rows, metric="cos").distances(walk), [1 - (0.6 + 1) / 2, 1], atol=1e-6)


def test_overflowing_distances_are_refused():
    rows = np.full((2, 1, 2), 2e19, np.float32)
    with pytest.raises(DataError, match="overflows float32"):
        Search(rows, metric="euc")
    with pytest.raises(DataError, match="overflows float32"):
        Search(rows / 2, metric="euc").distances(-rows[0] / 2)
