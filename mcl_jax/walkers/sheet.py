"""Draws many walkers as one picture."""

from collections.abc import Sequence

import numpy as np

from mcl_jax.walkers.sequence import render_sequence
from mcl_jax.walkers.style import VIEWS, WalkerStyle


def contact_sheet(
    seed: int = 0,
    subjects: Sequence[int] = range(3),
    conditions: Sequence[str] = ("nm-01", "bg-01", "cl-01"),
    views: Sequence[str] = VIEWS,
    style: WalkerStyle | None = None,
) -> np.ndarray:
    """Lay out one silhouette per view in columns, and subject by subject the conditions in rows.

    Returns:
        A grey image [rows · 64, columns · 64] uint8. Neighbouring columns are a sixth of a stride apart, so
        a row shows both the views and the movement.

    Raises:
        DataError: an unknown condition or view.
    """
    rows = []
    for subject in subjects:
        for condition in conditions:
            frames = 4 * len(views) + 1
            row = [
                render_sequence(seed, subject, condition, view, frames, style)[4 * i]
                for i, view in enumerate(views)
            ]
            rows.append(np.hstack(row))
    return np.vstack(rows)
