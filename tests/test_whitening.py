import numpy as np
import pytest
from whitening import SHRINKAGE, fit_whitening

from mcl_jax.errors import DataError


def walks(people: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings [n, 2, 3] of people far apart, whose walks differ most along the first channel."""
    rng = np.random.default_rng(0)
    centres = 20 * rng.standard_normal((people, 1, 2, 3))
    spread = rng.standard_normal((people, each, 2, 3)) * [10.0, 1.0, 0.1]
    return (centres + spread).reshape(-1, 2, 3), np.repeat([f"{i:03d}" for i in range(people)], each)


def test_walks_of_one_person_differ_alike_in_all_directions():
    embeddings, subjects = walks(400, 4)
    mean, maps = fit_whitening(embeddings, subjects)
    np.testing.assert_allclose(mean, embeddings.mean(axis=0), rtol=1e-5)
    mapped = np.einsum("npc,pcd->npd", embeddings - mean, maps).reshape(400, 4, 2, 3)
    within = mapped - mapped.mean(axis=1, keepdims=True)
    for part in range(2):
        covariance = np.einsum("ijc,ijd->cd", within[:, :, part], within[:, :, part]) / (400 * 3)
        # Variances 100, 1 and 0.01 were raised by the shrinkage, a tenth of their mean.
        added = SHRINKAGE * np.array([100, 1, 0.01]).mean()
        expected = np.diag(np.array([100, 1, 0.01]) / (np.array([100, 1, 0.01]) + added))
        np.testing.assert_allclose(np.linalg.eigvalsh(covariance), np.sort(np.diag(expected)), atol=0.03)


def test_nothing_can_be_learnt_of_people_seen_once_or_twice_alike():
    with pytest.raises(DataError, match="nobody walks twice"):
        fit_whitening(np.ones((3, 1, 2), np.float32), np.array(["1", "2", "3"]))
    with pytest.raises(DataError, match="all walks of a person are alike"):
        fit_whitening(np.ones((3, 1, 2), np.float32), np.array(["1", "1", "2"]))
