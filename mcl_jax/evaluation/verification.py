"""Verification (do two sequences show the same subject?): error rates and thresholds, with intervals.

A threshold t accepts a pair if its distance is ≤ t. The false-accept rate (FAR) is the share of impostor
pairs that it accepts, the true-accept rate (TAR) the share of genuine pairs. Both are exact for the
thresholds used, which are distances of pairs rounded up to 16 significant bits (see `pairs`). NumPy only.

In a resample that draws subject s w(s) times, a genuine pair of s counts w(s) times. An impostor pair of a
and b should count w(a)·w(b) times; it counts w(a) + w(b) − 1 times, the first-order approximation, which
needs counts for each subject instead of for each two subjects.

References:
    ISO/IEC 19795-1:2021, biometric performance testing.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

import numpy as np

from mcl_jax.errors import ConfigError
from mcl_jax.evaluation import metrics, scoring
from mcl_jax.evaluation.bootstrap import CONFIDENCE, RESAMPLES, SEED, Estimate, estimate, subject_weights
from mcl_jax.evaluation.pairs import PairCounts, Pairs, coarse_keys_of, distance_of
from mcl_jax.evaluation.protocols import Protocol
from mcl_jax.evaluation.roles import Roles
from mcl_jax.evaluation.scoring import GroupScores

RATES = (1e-1, 1e-2, 1e-3, 1e-4)


@dataclass(frozen=True, eq=False)
class Curve:
    """Receiver operating characteristic: the rates at each threshold at which one changes, ascending.

    Attributes:
        thresholds: float32 [k], distances.
        far: [k], share of impostor pairs accepted; NaN without impostor pairs.
        tar: [k], share of genuine pairs accepted; NaN without genuine pairs.
        groups: group → share of its genuine pairs accepted [k].
    """

    thresholds: np.ndarray
    far: np.ndarray
    tar: np.ndarray
    groups: dict[str, np.ndarray]


@dataclass(frozen=True)
class OperatingPoint:
    """The largest threshold whose FAR does not exceed a given rate.

    Attributes:
        rate: the given rate, a share.
        threshold: a distance; pairs at or below it are accepted.
        far: FAR at this threshold, a share; its interval estimates the FAR for other subjects.
        tar: TAR in %; for its interval, each resample chooses its own threshold.
        groups: group → TAR in % of its genuine pairs, at the same threshold.
    """

    rate: float
    threshold: float
    far: Estimate
    tar: Estimate
    groups: dict[str, Estimate]


@dataclass(frozen=True, eq=False)
class Verification:
    """Verification figures of a scored protocol: error rates and thresholds of pairs.

    Attributes:
        genuine: group → number of pairs of the same subject.
        impostor: number of pairs of different subjects, of all groups.
        subjects: number of subjects that are resampled.
        eer: equal error rate in %: the minimum over thresholds of the larger of FAR and 1 − TAR.
        eer_threshold: the threshold of that minimum; NaN without genuine or impostor pairs.
        points: operating points at those `RATES` for which there are enough impostor pairs.
        left_out: each of the other rates → reason.
        rank1: group → rank-1 in %, not rounded; "mean" is their mean, if the protocol reports one.
        curve: for pictures, and for thresholds at other rates.
    """

    genuine: dict[str, int]
    impostor: int
    subjects: int
    eer: Estimate
    eer_threshold: float
    points: tuple[OperatingPoint, ...]
    left_out: dict[float, str]
    rank1: dict[str, Estimate]
    curve: Curve

    def threshold(self, far: float) -> float:
        """Returns the largest threshold, a distance, whose false-accept rate does not exceed `far`.

        Raises:
            ConfigError: if `far` is not between 0 and 1, or there are too few impostor pairs.
        """
        if not 0 < far < 1:
            raise ConfigError(f"far: {far} is not a false-accept rate: give a share such as 0.001")
        if reason := _not_available(self.curve, self.impostor, far):
            raise ConfigError(
                f"far: no threshold for {far:g}: {reason}: give a higher rate or more sequences"
            )
        return float(self.curve.thresholds[_last_within(self.curve, far)])

    def as_json(self) -> dict[str, Any]:
        """Returns the block "verification" of metrics.json, with NaN for null."""
        return {
            "genuine": self.genuine,
            "impostor": self.impostor,
            "subjects": self.subjects,
            "eer": asdict(self.eer) | {"threshold": self.eer_threshold},
            "operating_points": [asdict(point) for point in self.points],
            "left_out": [{"rate": rate, "reason": reason} for rate, reason in self.left_out.items()],
            "rank1": {name: asdict(value) for name, value in self.rank1.items()},
            "bootstrap": {"over": "subjects", "resamples": RESAMPLES, "confidence": CONFIDENCE, "seed": SEED},
        }


def verify(protocol: Protocol, roles: Roles, groups: Mapping[str, GroupScores], pairs: Pairs) -> Verification:
    """Computes curve, thresholds and intervals.

    Args:
        protocol: the rules.
        roles: probes and gallery; their subjects are resampled.
        groups: figures of the same blocks, for rank-1.
        pairs: counts of all pairs that the protocol compares.
    """
    curve, impostor = _curve(pairs), pairs.impostor.total // 2
    present = np.zeros(pairs.codes.max() + 1, bool)
    present[pairs.codes[np.concatenate([roles.all_probes(), roles.gallery])]] = True
    weights = subject_weights(present)
    resampled = _resampled(pairs, weights)
    reasons = {rate: _not_available(curve, impostor, rate) for rate in RATES}
    eer, eer_threshold = _equal_error(curve, resampled)
    return Verification(
        genuine={group: counts.total for group, counts in pairs.genuine.items()},
        impostor=impostor,
        subjects=int(present.sum()),
        eer=eer,
        eer_threshold=eer_threshold,
        points=tuple(_point(curve, resampled, rate) for rate, reason in reasons.items() if not reason),
        left_out={rate: reason for rate, reason in reasons.items() if reason},
        rank1=_rank1(protocol, groups, weights),
        curve=curve,
    )


def _curve(pairs: Pairs) -> Curve:
    kinds = [pairs.impostor, *pairs.genuine.values()]
    keys = np.unique(np.concatenate([counts.keys() for counts in kinds]))
    impostor, *genuine = [counts.up_to(keys) for counts in kinds]
    return Curve(
        thresholds=distance_of(keys),
        far=_share(impostor),
        tar=_share(sum(genuine, np.zeros(len(keys), np.int64))),
        groups={group: _share(counts) for group, counts in zip(pairs.genuine, genuine, strict=True)},
    )


@dataclass(frozen=True, eq=False)
class _Resampled:
    """Rates for all weights of subjects [1 + resamples, 1 + k]: below all distances, then at each key."""

    keys: np.ndarray
    far: np.ndarray
    tar: np.ndarray
    groups: dict[str, np.ndarray]


def _resampled(pairs: Pairs, weights: np.ndarray) -> _Resampled:
    kinds = [pairs.impostor, *pairs.genuine.values()]
    keys = np.unique(np.concatenate([counts.coarse_keys() for counts in kinds]))
    steps = np.concatenate([[-1], keys])

    def accepted(counts: PairCounts) -> np.ndarray:
        return counts.weighted_up_to(weights, steps)

    impostor = accepted(pairs.impostor)
    # Σ over pairs of w(a) + w(b) − 1; running maximum, because pairs of two undrawn subjects count −1.
    impostor = np.maximum.accumulate(np.maximum(impostor - impostor[0] / 2, 0), axis=1)
    genuine = {group: accepted(counts) for group, counts in pairs.genuine.items()}
    return _Resampled(
        keys,
        far=_share(impostor),
        tar=_share(sum(genuine.values(), np.zeros_like(impostor))),
        groups={group: _share(counts) for group, counts in genuine.items()},
    )


def _share(accepted: np.ndarray) -> np.ndarray:
    """Divides the counts up to each threshold by the last, which has all pairs; NaN if that is 0."""
    total = accepted[..., -1:]
    return np.asarray(accepted / np.where(total > 0, total, np.nan))


def _not_available(curve: Curve, impostor: int, rate: float) -> str:
    """Returns the reason why there is no threshold for a rate; "" if there is one."""
    if not impostor:
        return "there are no impostor pairs"
    if 1 / impostor > rate:
        return f"there are {impostor} impostor pairs, but this rate needs at least {ceil(1 / rate)}"
    if curve.far[0] > rate:
        share = f"{curve.far[0]:.2g} of the impostor pairs"
        return f"{share} have the minimum distance, {curve.thresholds[0]:g}"
    return ""


def _last_within(curve: Curve, rate: float) -> int:
    return int(np.searchsorted(curve.far, rate, side="right")) - 1


def _equal_error(curve: Curve, resampled: _Resampled) -> tuple[Estimate, float]:
    """Returns (equal error rate in %, its threshold)."""
    worse = np.maximum(curve.far, 1 - curve.tar)
    if not worse.size or np.isnan(worse[0]):
        return Estimate(np.nan, np.nan, np.nan), np.nan
    best = int(np.argmin(worse))
    coarse = np.maximum(resampled.far, 1 - resampled.tar).min(axis=1)
    return estimate(100 * worse[best], 100 * coarse), float(curve.thresholds[best])


def _point(curve: Curve, resampled: _Resampled, rate: float) -> OperatingPoint:
    last = _last_within(curve, rate)
    column = np.searchsorted(resampled.keys, coarse_keys_of(curve.thresholds[last : last + 1])[0]) + 1
    # Each resample chooses its own threshold; without impostor pairs, its far is NaN and so is its tar.
    again = np.maximum((resampled.far <= rate).sum(axis=1) - 1, 0)[:, None]
    unknown = np.where(np.isnan(resampled.far[:, -1]), np.nan, 0)

    def tar(exact: np.ndarray, coarse: np.ndarray) -> Estimate:
        return estimate(100 * exact[last], 100 * np.take_along_axis(coarse, again, axis=1)[:, 0] + unknown)

    return OperatingPoint(
        rate=rate,
        threshold=float(curve.thresholds[last]),
        far=estimate(curve.far[last], resampled.far[:, column], maximum=1.0),
        tar=tar(curve.tar, resampled.tar),
        groups={group: tar(curve.groups[group], resampled.groups[group]) for group in curve.groups},
    )


def _rank1(protocol: Protocol, groups: Mapping[str, GroupScores], weights: np.ndarray) -> dict[str, Estimate]:
    """Returns rank-1 in % with each subject's probes counted by its weight; the gallery does not change."""
    resampled = {}
    for name, group in groups.items():
        shape = (*group.tries.shape[1:], len(weights))
        hits, tries = (
            (weights @ counts.reshape(len(counts), -1)).T.reshape(shape)
            for counts in (group.hits, group.tries)
        )
        cells = 100 * hits / np.where(tries > 0, tries, np.nan)
        resampled[name] = metrics.nan_mean(scoring.mean_over_gallery_views(protocol, cells), axis=0)
    if protocol.mean and len(groups) > 1:
        resampled["mean"] = np.mean(list(resampled.values()), axis=0)
    return {name: estimate(values[0], values) for name, values in resampled.items()}
