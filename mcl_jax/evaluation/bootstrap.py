"""Intervals by a bootstrap over subjects, the percentile method, with a fixed seed.

Subjects, not sequences, are drawn again with replacement, because sequences of one subject are alike.

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
    """A figure and its interval of 95 %; NaN where it is unknown."""

    value: float
    low: float
    high: float


def subject_weights(present: np.ndarray) -> np.ndarray:
    """Counts of each subject in each resample.

    Args:
        present: bool [subjects], those to draw from.

    Returns:
        float64 [1 + RESAMPLES, subjects]: first every subject once, then the resamples; no resamples where
        there are fewer than two subjects, which cannot vary.
    """
    chosen = np.flatnonzero(present)
    resamples = RESAMPLES if len(chosen) > 1 else 0
    weights = np.zeros((1 + resamples, len(present)))
    weights[0, chosen] = 1
    rng = np.random.default_rng(SEED)
    for row in weights[1:]:
        row[chosen] = np.bincount(rng.integers(len(chosen), size=len(chosen)), minlength=len(chosen))
    return weights


def estimate(value: float, resampled: np.ndarray, most: float = 100.0) -> Estimate:
    """A figure with the interval that its resamples give.

    Args:
        value: the figure.
        resampled: [1 + resamples], the same by the weights of `subject_weights`. If these were evaluated more
            coarsely than the figure, all shift by what that changes in the first, the figure itself.
        most: the interval stays within [0, most].
    """
    known = resampled[1:][~np.isnan(resampled[1:])]
    if np.isnan(value) or not known.size:
        return Estimate(float(value), np.nan, np.nan)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.clip(np.quantile(known, [tail, 1 - tail]) + (value - resampled[0]), 0, most).tolist()
    return Estimate(float(value), low, high)
