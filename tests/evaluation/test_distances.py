import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcl_jax.errors import ConfigError, DataError
from mcl_jax.evaluation import distances
from mcl_jax.evaluation.distances import pairwise_distances
from mcl_jax.ops.cpu.kernels import is_ready


def draw(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def slow(x, y, metric):
    """The definition, pair by pair and part by part, in float64."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    result = np.zeros((len(x), len(y)))
    for i, a in enumerate(x):
        for j, b in enumerate(y):
            if metric == "euc":
                result[i, j] = np.mean([np.sqrt(((a[p] - b[p]) ** 2).sum()) for p in range(len(a))])
            else:
                result[i, j] = 1 - np.mean(
                    [a[p] @ b[p] / np.linalg.norm(a[p]) / np.linalg.norm(b[p]) for p in range(len(a))]
                )
    return result


def test_hand_computed_values():
    x = np.array([[[3, 0], [0, 1]]], np.float32)
    y = np.array([[[0, 4], [0, 1]], [[3, 0], [0, -1]]], np.float32)
    np.testing.assert_allclose(pairwise_distances(x, y), [[(5 + 0) / 2, (0 + 2) / 2]], rtol=1e-6)
    np.testing.assert_allclose(
        pairwise_distances(x, y, metric="cos"), [[1 - (0 + 1) / 2, 1 - (1 - 1) / 2]], atol=1e-6
    )


@pytest.mark.parametrize("metric", ["euc", "cos"])
def test_equals_the_definition(metric):
    x, y = draw(0, 5, 3, 7), draw(1, 9, 3, 7)
    result = pairwise_distances(x, y, metric=metric)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, slow(x, y, metric), atol=2e-6)


@settings(max_examples=15)
@given(
    n=st.integers(1, 9), m=st.integers(1, 9), tile=st.integers(1, 5), metric=st.sampled_from(["euc", "cos"])
)
def test_tile_size_changes_nothing(n, m, tile, metric):
    # Of different people: an embedding is as far from itself as the root of a rounding error.
    x, y = draw(n, n, 2, 3), draw(100 + m, m, 2, 3)
    whole = pairwise_distances(x, y, metric=metric)
    np.testing.assert_allclose(pairwise_distances(x, y, metric=metric, tile=tile), whole, atol=2e-6)


@pytest.mark.parametrize("metric", ["euc", "cos"])
def test_duplicates_are_near_zero_and_tie(metric):
    x = draw(2, 40, 16, 64)
    result = pairwise_distances(x, np.concatenate([x, x]), metric=metric)
    assert np.isfinite(result).all()
    assert np.abs(np.diagonal(result)).max() < 2e-2  # √ of a rounding error of |x|²
    np.testing.assert_array_equal(result[:, :40], result[:, 40:])


@pytest.mark.parametrize("metric", ["euc", "cos"])
@pytest.mark.parametrize(
    ("n", "m", "p", "c"), [(1, 1, 1, 1), (14, 32, 2, 8), (171, 83, 3, 33), (64, 200, 16, 256)]
)
def test_the_cpp_kernels_and_xla_agree_up_to_rounding(metric, n, m, p, c, monkeypatch):
    if not is_ready():
        pytest.skip("no C++ compiler")
    x, y = jnp.asarray(draw(n, n, p, c)), jnp.asarray(draw(100 + m, m, p, c))
    result = {}
    for ours in (True, False):
        monkeypatch.setattr(distances, "is_ready", lambda ours=ours: ours)
        result[ours] = np.asarray(distances._tile_distances.__wrapped__(x, y, metric=metric))
    np.testing.assert_allclose(result[True], result[False], atol=1e-5)


def test_distances_of_every_size_are_right_up_to_rounding():
    """The root is by Newton's way on some CPUs."""
    sizes = (10.0 ** np.linspace(-18.5, 18.5, 999)).astype(np.float32)
    x, y = np.zeros((1, 1, 2), np.float32), np.zeros((999, 1, 2), np.float32)
    y[:, 0, 0] = sizes
    np.testing.assert_allclose(pairwise_distances(x, y)[0], sizes, rtol=3e-7)
    assert pairwise_distances(x, x)[0, 0] == 0


def test_zero_embedding_has_no_cosine_and_no_nan():
    x = np.zeros((1, 2, 3), np.float32)
    np.testing.assert_array_equal(pairwise_distances(x, draw(3, 2, 2, 3), metric="cos"), np.ones((1, 2)))


def test_invalid_arguments_are_refused():
    x = draw(4, 2, 2, 3)
    with pytest.raises(ConfigError, match="metric: 'l1' is unknown: choose one of euc, cos"):
        pairwise_distances(x, x, metric="l1")
    with pytest.raises(ConfigError, match="tile: 0"):
        pairwise_distances(x, x, tile=0)
    with pytest.raises(DataError, match="overflows float32"):
        pairwise_distances(x * 1e25, x)
    for scale, message in ((1e25, "overflows float32"), (1e-25, "vanish in float32")):
        for metric in ("euc", "cos"):
            with pytest.raises(DataError, match=message):
                pairwise_distances(x, (x * scale).astype(np.float32), metric=metric)


def test_cosine_distances_of_the_reference(shared_parity):
    with np.load(shared_parity / "evaluation.npz") as truth:
        x = truth["rerank/embeddings"]
        np.testing.assert_allclose(
            pairwise_distances(x[:12], x[12:], metric="cos"), truth["cos_distances"], atol=5e-7
        )
        distances, apart = pairwise_distances(x, x), ~np.eye(len(x), dtype=bool)
        np.testing.assert_allclose(distances[apart], truth["rerank/distances"][apart], atol=2e-6)
        # Between an embedding and itself is what rounding leaves of 0, by the order of the sums.
        np.testing.assert_allclose(distances[~apart], 0, atol=1e-3)
