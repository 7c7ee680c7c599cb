"""Confidence intervals by a bootstrap over subjects: percentile method, fixed seed.

It resamples subjects, not sequences, because sequences of one subject are not independent.

References:
    Efron, Tibshirani: An Introduction to the Bootstrap, 1993, chapter 13.
    Bolle, Ratha, Pankanti: Error analysis of pattern recognition systems: the subsets bootstrap, CVIU 2004.
"""

from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
CONFIDENCE = 0.95
SEED = 0


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval; NaN if unknown."""

    value: float
    low: float
    high: float


def subject_weights(present: np.ndarray) -> np.ndarray:
    """Counts how often each subject is drawn in each resample.

    Args:
        present: bool [subjects], the subjects to draw from.

    Returns:
        float64 [1 + RESAMPLES, subjects]: first every subject once, then the resamples; no resamples if there
        are fewer than two subjects.
    """
    chosen = np.flatnonzero(present)
    resamples = RESAMPLES if len(chosen) > 1 else 0
    weights = np.zeros((1 + resamples, len(present)))
    weights[0, chosen] = 1
    rng = np.random.default_rng(SEED)
    for row in weights[1:]:
        row[chosen] = np.bincount(rng.integers(len(chosen), size=len(chosen)), minlength=len(chosen))
    return weights


def estimate(value: float, resampled: np.ndarray, maximum: float = 100.0) -> Estimate:
    """Returns a figure with the interval of its resamples.

    Args:
        value: the figure.
        resampled: [1 + resamples], the figure for each row of `subject_weights`. If these are computed more
            coarsely than `value`, all are shifted by the difference between `value` and the first.
        maximum: the interval is clipped to [0, maximum].
    """
    known = resampled[1:][~np.isnan(resampled[1:])]
    if np.isnan(value) or not known.size:
        return Estimate(float(value), np.nan, np.nan)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.clip(np.quantile(known, [tail, 1 - tail]) + (value - resampled[0]), 0, maximum).tolist()
    return Estimate(float(value), low, high)
