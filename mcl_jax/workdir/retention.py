"""Decides which checkpoints to keep: the newest, some in between, and the best by a test figure."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import logging
from orbax.checkpoint import v1 as ocp

from mcl_jax.errors import ConfigError
from mcl_jax.utils.files import read_bounded, write_atomically

BEST = "best.json"

_MAX_BYTES = 2**16
_policies = ocp.training.preservation_policies


@dataclasses.dataclass(frozen=True)
class Keep:
    """Rule for which checkpoints are kept.

    Attributes:
        newest: number of newest checkpoints to keep.
        every: also keep steps that are multiples of this number; 0 for none.
    """

    newest: int
    every: int = 0

    def policy(self, workdir: Path) -> Any:
        """Returns the rule as an Orbax policy, which also keeps the best checkpoint of a workdir."""
        policies = [_policies.LatestN(self.newest), _Best(workdir)]
        if self.every:
            policies.append(_policies.EveryNSteps(self.every))
        return _policies.AnyPreservationPolicy(policies)


class _Best:
    """Keeps the step that `best.json` names; reads it each time, so that all hosts agree."""

    def __init__(self, workdir: Path):
        self._workdir = workdir

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        step = best(self._workdir).get("step")
        return [checkpoint.step == step for checkpoint in checkpoints]


def best(workdir: Path) -> dict[str, Any]:
    """Returns `step`, `figure` and `value` of the best test so far; empty if there is none."""
    path = workdir / BEST
    try:
        if not path.exists():
            return {}
        found = json.loads(read_bounded(path, _MAX_BYTES))
        digest = found.pop("digest", None)  # older versions wrote none
        if {"step", "figure", "value"} == found.keys() and digest in (None, _digest(found)):
            return found
        reason = "it is damaged, or not a record of a test"
    except (AttributeError, OSError, RecursionError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
    logging.warning("%s: ignored: %s", path, reason)
    return {}


def note_scores(workdir: Path, figure: str, step: int, scores: Mapping[str, Mapping[str, float]]) -> None:
    """Records the step of a test in WORKDIR/best.json if its figure is the highest so far.

    Args:
        workdir: folder of the run.
        figure: GROUP/NAME, such as NM/Rank-1.
        step: step of the state that was tested.
        scores: group → name → figure; empty on hosts that do not score.

    Raises:
        ConfigError: if there is no such figure.
    """
    if jax.process_index() != 0:
        return
    figures = {f"{group}/{name}": value for group, some in scores.items() for name, value in some.items()}
    if figure not in figures:
        raise ConfigError(
            f"train.keep_best: no figure {figure!r} in the test of step {step} (which is saved); there are "
            f"{', '.join(figures) or 'none'}"
        )
    before = best(workdir)
    if before.get("figure") == figure and before["value"] >= figures[figure]:
        return
    found = {"step": step, "figure": figure, "value": figures[figure]}
    write_atomically(workdir / BEST, json.dumps({**found, "digest": _digest(found)}).encode())


def _digest(found: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
