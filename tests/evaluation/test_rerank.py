import numpy as np
import pytest

from mcl_jax.errors import ConfigError
from mcl_jax.evaluation.rerank import Rerank, rerank_distances


def slow(distances, num_probe, k1, k2, lam):
    """The paper's equations with sets, in float64."""
    d = distances.astype(np.float64) / distances.max(axis=1, keepdims=True)
    n = len(d)
    order = np.argsort(d, axis=1, kind="stable")

    def reciprocal(i, k):
        return {int(j) for j in order[i, : k + 1] if i in order[j, : k + 1]}

    weights = np.zeros((n, n))
    for i in range(n):
        base = reciprocal(i, k1)
        wide = set(base)
        for j in base:
            other = reciprocal(j, round(k1 / 2))
            if len(other & base) > 2 / 3 * len(other):
                wide |= other
        for j in wide:
            weights[i, j] = np.exp(-d[i, j])
        weights[i] /= weights[i].sum()
    weights = np.array([weights[order[i, :k2]].mean(axis=0) for i in range(n)])
    jaccard = np.array(
        [
            [1 - np.minimum(a, b).sum() / np.maximum(a, b).sum() for b in weights[num_probe:]]
            for a in weights[:num_probe]
        ]
    )
    return (1 - lam) * jaccard + lam * d[:num_probe, num_probe:]


def all_distances(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n // 4, 5)).repeat(4, axis=0) + 0.5 * rng.normal(size=(n, 5))
    return np.linalg.norm(x[:, None] - x[None], axis=2).astype(np.float32)


@pytest.mark.parametrize(("k1", "k2", "lam"), [(6, 6, 0.3), (7, 1, 0.0), (20, 6, 0.3), (1, 3, 0.5)])
def test_equals_the_equations(k1, k2, lam):
    distances = all_distances(40, k1)
    truth = slow(distances, 12, k1, k2, lam)
    result = rerank_distances(distances, 12, Rerank(k1, k2, lam))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, truth, atol=3e-3)  # half-precision weights


def test_lambda_one_is_the_scaled_distance():
    distances = all_distances(16, 0)
    scaled = distances / distances.max(axis=1, keepdims=True)
    np.testing.assert_allclose(rerank_distances(distances, 4, Rerank(lam=1.0)), scaled[:4, 4:], atol=1e-6)


def test_two_separate_pairs_by_hand():
    # Sequences 0, 2 lie together and 1, 3 lie together; with k1 = 1 each pair is its own neighbourhood with
    # equal weights, so the Jaccard distance is 0 within a pair and 1 across.
    distances = np.where(np.eye(4)[[2, 3, 0, 1]] + np.eye(4) > 0, 0, 1).astype(np.float32)
    result = rerank_distances(distances, 2, Rerank(k1=1, k2=1, lam=0.0))
    np.testing.assert_allclose(result, [[0, 1], [1, 0]], atol=1e-6)


def test_identical_sequences_give_no_nan():
    assert np.isfinite(rerank_distances(np.zeros((5, 5), np.float32), 2, Rerank())).all()


def test_parameters_are_read_and_checked():
    assert Rerank.parse("20,6,0.3") == Rerank()
    for text in ("20,6", "a,b,c", "20,6.5,0.3"):
        with pytest.raises(ConfigError, match="is not k1,k2,lambda"):
            Rerank.parse(text)
    for text in ("0,6,0.3", "20,0,0.3", "20,6,1.5", "20,6,nan"):
        with pytest.raises(ConfigError, match="k1 and k2 must be at least 1"):
            Rerank.parse(text)


def test_equals_the_reference(shared_parity):
    with np.load(shared_parity / "evaluation.npz") as truth:
        result = rerank_distances(
            truth["rerank/distances"], int(truth["rerank/num_query"]), Rerank(6, 6, 0.3)
        )
        np.testing.assert_array_equal(result, truth["rerank/reranked"])
