"""Thresholds of a gallery: the largest distance to accept for a false-accept rate."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from absl import logging

from mcl_jax.errors import DataError
from mcl_jax.evaluation.distances import Metric
from mcl_jax.utils.digest import SHORT, DigestError, check_seal
from mcl_jax.utils.files import read_bounded

_LARGEST = 1 << 26  # bytes of a metrics.json


@dataclass(frozen=True)
class Calibration:
    """Thresholds for distances between walks, from a test of the model.

    Attributes:
        source: the file they come from.
        metric: which distance, "euc" or "cos".
        thresholds: false-accept rate of one comparison, a share → the largest distance to accept.
        digest: digest of the tested model; "" if the file has none.
    """

    source: str
    metric: str
    thresholds: Mapping[float, float]
    digest: str = ""

    def check_model(self, digest: str, path: str) -> None:
        """Checks that a model is the one that was tested.

        Raises:
            DataError: if it is another model.
        """
        if self.digest and self.digest != digest:
            raise DataError(
                f"{self.source}: its thresholds are for the model with digest {self.digest[:SHORT]}, but "
                f"{path} has digest {digest[:SHORT]}; give the metrics.json of a test of {path}"
            )

    def threshold(self, rate: float) -> float:
        """Returns the threshold of a rate.

        Raises:
            DataError: if the test has no threshold for it; the message lists the rates that have one.
        """
        if rate not in self.thresholds:
            there = ", ".join(f"{known:g}" for known in self.thresholds)
            raise DataError(
                f"far: {self.source} has no threshold for {rate:g}; it has thresholds for {there}"
            )
        return self.thresholds[rate]

    def lowest_rate(self) -> float:
        """Returns the lowest rate that there is a threshold for."""
        return min(self.thresholds)

    def as_json(self) -> dict[str, Any]:
        """Returns the calibration as JSON, which `calibration_of` reads."""
        points = [{"rate": rate, "threshold": value} for rate, value in self.thresholds.items()]
        return {"source": self.source, "metric": self.metric, "operating_points": points}


def calibration_of(content: Any, source: str) -> Calibration:
    """Reads a calibration from a JSON object.

    Raises:
        DataError: if it is not a calibration.
    """
    try:
        metric = content["metric"]
        thresholds = {
            float(point["rate"]): float(point["threshold"]) for point in content["operating_points"]
        }
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{source}: its thresholds cannot be read; it may be cut off or changed") from None
    sound = all(0 < rate < 1 and math.isfinite(value) for rate, value in thresholds.items())
    if metric not in get_args(Metric) or not thresholds or not sound:
        raise DataError(f"{source}: has no usable thresholds: test on more subjects")
    return Calibration(source, metric, thresholds)


def read_calibration(path: Path) -> Calibration:
    """Reads the thresholds that a test wrote into its metrics.json.

    Raises:
        DataError: if it is not such a file, is damaged, or has no threshold. A test of too few subjects has
            none. Nor has a re-ranked test, because re-ranked distances depend on the gallery.
    """
    try:
        content = json.loads(read_bounded(path, _LARGEST))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; give the metrics.json of a test") from None
    except (ValueError, RecursionError):
        raise DataError(f"{path}: is not JSON; give the metrics.json of a test") from None
    if not isinstance(content, dict) or not isinstance(content.get("verification"), dict):
        raise DataError(f"{path}: has no block 'verification'; give the metrics.json of a test")
    try:
        if not check_seal(content):
            logging.warning("%s: has no digest, so damage to its thresholds would go unnoticed", path)
    except DigestError as error:
        raise DataError(
            f"{path}: damaged or changed: {error}; test again, or take a copy of the file"
        ) from None
    if content.get("rerank") is not None:
        raise DataError(
            f"{path}: its distances are re-ranked, so its thresholds do not apply here; test without rerank"
        )
    points = content["verification"].get("operating_points")
    calibration = calibration_of({"metric": content.get("metric"), "operating_points": points}, str(path))
    model = content.get("model")
    digest = model.get("digest", "") if isinstance(model, dict) else ""
    return replace(calibration, digest=str(digest))
