"""Projects embeddings onto their two principal components."""

import numpy as np

_VECTORS, _ROUNDS = 8, 20


def principal_plane(embeddings: np.ndarray) -> np.ndarray:
    """Returns coordinates [n, 2], in −1…1, of embeddings [n, ...] on their two principal components.

    Computed by subspace iteration (Halko, Martinsson & Tropp 2011, arXiv:0909.4061) from a fixed start, so
    that equal embeddings give equal maps. The sign of each direction makes its largest coordinate positive.
    """
    x = embeddings.reshape(len(embeddings), -1).astype(np.float64)
    x = x - x.mean(axis=0)
    q = np.random.default_rng(0).standard_normal((x.shape[1], min(_VECTORS, *x.shape)))
    for _ in range(_ROUNDS):
        q = np.linalg.qr(x.T @ (x @ q))[0]
    projected = x @ q
    _, _, directions = np.linalg.svd(projected, full_matrices=False)
    plane = np.zeros((len(x), 2))
    found = projected @ directions[:2].T
    plane[:, : found.shape[1]] = found
    largest = plane[np.abs(plane).argmax(axis=0), [0, 1]]
    plane *= np.where(largest < 0, -1, 1)
    return plane / max(np.abs(plane).max(), np.finfo(np.float64).tiny)
