"""The protocol of a logger, and the run that it logs."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mcl_jax.utils.files import read_bounded, write_atomically

PROJECT = "mcl_jax"
"""Project or experiment of a run whose user names none."""

_RUN_ID = "run_id.txt"
_VALID_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


@dataclass(frozen=True)
class LoggedRun:
    """The facts about a run that a logger needs.

    Attributes:
        workdir: folder of the run; a logger that writes files has a folder of its own name there.
        start: the step from which the run goes on; 0 for a new one.
        config: dotted key → value.
    """

    workdir: Path
    start: int
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.workdir.absolute().name

    def kept_id(self, logger: str) -> str | None:
        """Returns the id that a logger gave to the run before; None if there is none, or it is damaged."""
        try:
            text = read_bounded(self.workdir / logger / _RUN_ID, 1024).decode(errors="replace").strip()
        except OSError:
            return None
        return text if _VALID_ID.fullmatch(text) else None

    def keep_id(self, logger: str, run_id: str) -> None:
        """Saves the id of a logger's run, so that a restart continues that run.

        Raises:
            UserError: if it cannot be written.
        """
        write_atomically(self.workdir / logger / _RUN_ID, f"{run_id}\n".encode())


class Logger(Protocol):
    """Takes reports of a run.

    Every method is called in one thread, in the order of the run, and may wait or raise: a logger that raises
    is left out from then on, and the run goes on.
    """

    def figures(self, step: int, figures: Mapping[str, float]) -> None:
        """Takes figures of a step: name, such as "train/loss" or "test/NM/Rank-1" → value, perhaps NaN."""

    def clips(self, step: int, sheet: np.ndarray) -> None:
        """Takes a picture of training clips, uint8 [height, width]; one that may send files leaves it out.

        It shows people, with their names.
        """

    def report(self, step: int, scores: Mapping[str, float], files: Sequence[Path]) -> None:
        """Takes the test at the end.

        Args:
            step: the last.
            scores: name → percent, as in `figures`.
            files: its tables and pictures without people, and the page of the curves.
        """

    def close(self, *, finished: bool) -> None:
        """Ends the logging; `finished` tells a run that is done from one that ended early."""


def names_of_scores(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Returns the scores of a test, group of probes → figure → percent, by the names of `Logger.figures`.

    A score that is NaN, because nothing could be compared, is left out.
    """
    return {
        f"test/{group}/{name}": value
        for group, each in scores.items()
        for name, value in each.items()
        if not math.isnan(value)
    }
