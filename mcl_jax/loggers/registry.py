"""Loggers by name, and those of a run together."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from mcl_jax.errors import ConfigError
from mcl_jax.loggers.background import BackgroundLogger
from mcl_jax.loggers.logger import LoggedRun, Logger, names_of_scores
from mcl_jax.loggers.mlflow import MLflow
from mcl_jax.loggers.tensorboard import TensorBoard
from mcl_jax.loggers.wandb import WandB
from mcl_jax.utils.extras import require_extra
from mcl_jax.utils.signatures import brief, lookup

KEY = "train.loggers"

_CLOSING_SECONDS = 60.0

_SENT = ("table.txt", "metrics.json", "cmc.png", "heatmap.png", "roc.png", "det.png")
"""Files of a test that loggers get; the others show people, or name them."""


@dataclass(frozen=True)
class Kind:
    """A kind of logger.

    Attributes:
        extra: that installs its library.
        open: makes the logger of a run.
    """

    extra: str
    open: Callable[[LoggedRun], Logger]


LOGGERS: dict[str, Kind] = {
    "tensorboard": Kind("train", TensorBoard),
    "wandb": Kind("wandb", WandB),
    "mlflow": Kind("mlflow", MLflow),
}
"""Value of `train.loggers` → the logger."""


def check_loggers(names: Any) -> None:
    """Checks the names of loggers.

    Raises:
        ConfigError: if they are not a tuple of names in `LOGGERS`.
    """
    if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{KEY}: is {brief(names)}; expected names in brackets, such as ('tensorboard',)")
    for name in names:
        lookup(KEY, LOGGERS, name)


def require_loggers(names: Sequence[str]) -> None:
    """Checks that the libraries of loggers are installed.

    Raises:
        MissingExtraError: naming the first that is missing, and the command that installs it.
    """
    for name in names:
        require_extra(LOGGERS[name].extra, f"{KEY}: {name}")


def open_loggers(names: Sequence[str], run: LoggedRun) -> "Loggers":
    """Starts to open loggers.

    Args:
        names: keys of `LOGGERS`.
        run: what they log.
    """
    kinds = {name: LOGGERS[name] for name in names}
    return Loggers([BackgroundLogger(name, partial(kind.open, run)) for name, kind in kinds.items()])


class Loggers:
    """The loggers of a run; a context manager that closes them. None of them ends or holds up the run."""

    def __init__(self, opened: Sequence[BackgroundLogger] = ()) -> None:
        """Takes loggers, none on processes that log nothing; see `open_loggers`."""
        self._loggers = list(opened)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(finished=kind is None)

    def figures(self, step: int, figures: Mapping[str, float]) -> None:
        """Logs the figures of a step, see `Logger.figures`."""
        self._hand(lambda logger: logger.figures(step, figures))

    def scores(self, step: int, scores: Mapping[str, Mapping[str, float]]) -> None:
        """Logs the scores of a test during training, group of probes → figure → percent."""
        if scores:
            self.figures(step, names_of_scores(scores))

    def clips(self, step: int, sheet: np.ndarray) -> None:
        """Logs a picture of clips, uint8 [height, width]."""
        self._hand(lambda logger: logger.clips(step, sheet))

    def report(
        self, step: int, scores: Mapping[str, Mapping[str, float]], folder: Path, *others: Path
    ) -> None:
        """Logs the test at the end.

        Args:
            step: the last.
            scores: group of probes → figure → percent.
            folder: of the test, from which no file that shows people is taken.
            *others: more files.
        """
        files = [path for path in (*(folder / name for name in _SENT), *others) if path.is_file()]
        self._hand(lambda logger: logger.report(step, names_of_scores(scores), files))

    def close(self, *, finished: bool, within: float = _CLOSING_SECONDS) -> None:
        """Closes the loggers, all at once; a second call does nothing.

        Args:
            finished: whether the run is done.
            within: seconds to wait for them.
        """
        until = time.monotonic() + within
        closing, self._loggers = self._loggers, []
        for logger in closing:
            logger.begin_to_close(finished=finished)
        for logger in closing:
            logger.wait(until)

    def _hand(self, call: Callable[[Logger], None]) -> None:
        for logger in self._loggers:
            logger.hand(call)
