"""Reports training: progress bar, console lines, loggers and a page of curves."""

import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np
import optax
from absl import logging

from mcl_jax.evaluation.page.curves import About, Curves
from mcl_jax.loggers.registry import Loggers
from mcl_jax.utils.progress_bar import ProgressBar

_COLLAPSED = 1e-6
"""Mean distance of embeddings below which no gradient pulls them apart any more."""

_SHOWN = ("loss", "accuracy", "loss_num", "lr")  # the last parts of their names


class TrainingReporter:
    """Reports training: the speed, and metrics averaged over the steps since the last report."""

    def __init__(
        self,
        workdir: Path,
        *,
        start: int,
        steps: int,
        log_every: int,
        sequences_per_step: int,
        schedule: optax.Schedule,
        about: About | None = None,
        loggers: Loggers | None = None,
    ):
        """Starts the clock. Only the first host shows anything; the page says what `about` does."""
        self._schedule = jax.jit(schedule)  # one program instead of one for every operation
        self._log_every, self._last_step = log_every, steps
        self._sequences_per_step, self._skipped, self._left_out = sequences_per_step, 0, 0
        self._pending: list[Mapping[str, jax.Array]] = []
        self._since = time.monotonic()
        self._clips: tuple[int, np.ndarray] | None = None
        self._collapsed = False
        active = jax.process_index() == 0
        self._loggers = loggers or Loggers()
        self._curves = Curves(workdir, start, about) if active else None
        self._waiting = ProgressBar("training", "step", steps, start, show=active)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.__exit__(kind, error, trace)
        if self._curves is not None:
            self._curves.write_page()

    def update(self, step: int, metrics: Mapping[str, jax.Array]) -> bool:
        """Adds the metrics of an update, still on the devices; reports every `log_every` steps.

        Args:
            step: number of updates done, with this one.
            metrics: scalars.

        Returns:
            Whether there was a report, which has to wait for the devices.
        """
        self._pending.append(metrics)
        self._waiting.update()
        if step % self._log_every and step != self._last_step:
            return False
        means = self._means()
        # Only computed here, because its value has to wait for the running steps.
        means["lr"] = float(jax.device_get(self._schedule(jax.device_put(np.int32(step - 1)))))
        if self._curves is not None:
            self._report(self._curves, step, means)
        return True

    def leave_out(self, seconds: float) -> None:
        """Takes time that has just passed out of speed and time left, as that of a compilation."""
        self._since += seconds
        self._waiting.leave_out(seconds)

    def clips(self, step: int, sheet: np.ndarray) -> None:
        """Adds a picture, uint8 [height, width], of an update's clips to the next report."""
        self._clips = (step, sheet)

    def scores(self, step: int, scores: Mapping[str, Mapping[str, float]]) -> None:
        """Adds the scores of a test during training, and excludes its time from the speed.

        Args:
            step: number of updates done.
            scores: group of probes → figure → percent.
        """
        self._loggers.scores(step, scores)
        if self._curves is not None:
            self._curves.add_scores(step, scores)
        self._since = time.monotonic()

    def _means(self) -> dict[str, Any]:
        # This waits for the devices; elsewhere the loop runs ahead of them. Metrics of skipped updates do
        # not count; only their number does.
        on_host = [m for m in jax.device_get(self._pending) if not m["left_out"]]
        self._left_out += len(self._pending) - len(on_host)
        now = time.monotonic()
        keys = [key for key in self._pending[0] if key not in ("left_out", "leave")]
        means = {key: float(np.mean([m[key] for m in on_host])) if on_host else np.nan for key in keys}
        present = sum(int(m["sequences"]) for m in on_host)
        self._skipped += self._sequences_per_step * len(on_host) - present
        for unit in ("sequences", "frames"):
            means[f"{unit}_per_second"] = means.pop(unit) * len(on_host) / (now - self._since)
        self._pending, self._since = [], now
        return means

    def _report(self, curves: Curves, step: int, means: Mapping[str, float]) -> None:
        printed = {key: value for key, value in means.items() if key.split("/")[-1] in _SHOWN}
        first = {"loss": printed.pop("loss")}
        shown = "  ".join(f"{key} {value:.4g}" for key, value in (first | printed).items())
        if self._skipped:
            shown += f"  skipped {self._skipped}"
        if self._left_out:
            shown += f"  updates left out {self._left_out}"
        self._note_collapse(step, means)
        speed = f"{means['sequences_per_second']:.4g} seq/s  {means['frames_per_second']:.4g} frames/s"
        self._waiting.say(f"step {step}/{self._last_step}  {shown}  {speed}")
        if self._clips is not None:
            self._loggers.clips(*self._clips)
            self._clips = None
        figures = {f"train/{key}": value for key, value in means.items()}
        curves.add(step, figures)
        counts = {"train/sequences_skipped": self._skipped, "train/updates_left_out": self._left_out}
        self._loggers.figures(step, figures | counts)

    def _note_collapse(self, step: int, means: Mapping[str, float]) -> None:
        """Warns each time that all embeddings become equal, which the loss alone does not show."""
        distances = [value for key, value in means.items() if key.endswith("/mean_dist")]
        collapsed = any(value < _COLLAPSED for value in distances)
        if collapsed and not self._collapsed:
            logging.warning(
                "step %d: the mean distance of embeddings is %.2g: the model has collapsed to one embedding "
                "for all walks, and the loss will not improve; start again with a lower optimizer.lr",
                step,
                min(distances),
            )
        self._collapsed = collapsed
