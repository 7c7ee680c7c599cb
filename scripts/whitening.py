"""Whitening within people: scales down differences between walks of one person, part by part."""

import numpy as np
from jaxtyping import Float, Shaped

from mcl_jax.errors import DataError

SHRINKAGE = 0.1
"""Share of the mean variance that is added to the covariance, so that no direction is amplified."""


def fit_whitening(
    embeddings: Float[np.ndarray, "n p c"], subjects: Shaped[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "p c"], Float[np.ndarray, "p c c"]]:
    """Returns mean m and maps W such that (x − m) W has identity covariance within subjects.

    Within-class covariance normalisation (Hatch et al. 2006, "Within-class covariance normalization for
    SVM-based speaker recognition"), with shrinkage.

    Args:
        embeddings: [n, parts, channels] of walks that the model was not trained on.
        subjects: [n], the subject of each walk.

    Raises:
        DataError: if nobody walks twice.
    """
    people, whose, counts = np.unique(subjects, return_inverse=True, return_counts=True)
    freedom = len(subjects) - len(people)
    if freedom < 1:
        raise DataError("whitening: nobody walks twice, so differences within people are unknown")
    x = embeddings.astype(np.float64)
    sums = np.zeros((len(people), *x.shape[1:]))
    np.add.at(sums, whose, x)
    within = x - (sums / counts[:, None, None])[whose]
    covariance = np.einsum("npc,npd->pcd", within, within) / freedom
    variance = np.trace(covariance, axis1=1, axis2=2) / x.shape[-1]
    if not (variance > 0).all():
        raise DataError(
            "whitening: all walks of a person are alike, so differences within people are unknown"
        )
    covariance += SHRINKAGE * variance[:, None, None] * np.eye(x.shape[-1])
    maps = np.linalg.cholesky(np.linalg.inv(covariance))
    return x.mean(axis=0).astype(np.float32), maps.astype(np.float32)
