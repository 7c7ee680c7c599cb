"""What a run shows: a progress bar, console lines, TensorBoard scalars and a page of curves."""

import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np
import optax
from tensorboardX import SummaryWriter

from mcl_jax.evaluation.page.curves import Curves
from mcl_jax.waiting import Waiting

_SHOWN = ("loss", "accuracy", "loss_num", "lr")  # the last parts of their names


class Progress:
    """Reports training: averages of the metrics over the steps since the last line, and the speed."""

    def __init__(
        self,
        workdir: Path,
        *,
        start: int,
        steps: int,
        log_every: int,
        sequences_per_step: int,
        schedule: optax.Schedule,
    ):
        """Starts the clock. Hosts other than the first show nothing."""
        self._schedule = schedule
        self._log_every, self._last_step = log_every, steps
        self._sequences_per_step, self._skipped, self._left_out = sequences_per_step, 0, 0
        self._pending: list[Mapping[str, jax.Array]] = []
        self._since = time.monotonic()
        active = jax.process_index() == 0
        self._writer = SummaryWriter(str(workdir / "tensorboard"), purge_step=start) if active else None
        self._curves = Curves(workdir, start) if active else None
        self._waiting = Waiting("training", "step", steps, start, show=active)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.__exit__(kind, error, trace)
        if self._writer is not None:
            self._writer.close()
        if self._curves is not None:
            self._curves.write_page()

    def update(self, step: int, metrics: Mapping[str, jax.Array]) -> bool:
        """Takes the metrics of an update, still on the devices, and reports every `log_every` steps.

        Args:
            step: updates done, this one included.
            metrics: scalars.

        Returns:
            Whether there was a report, for which the devices were waited for.
        """
        self._pending.append(metrics)
        self._waiting.update()
        if step % self._log_every and step != self._last_step:
            return False
        means = self._means()
        # Asked for here only: its value comes from the device, after the steps that are under way.
        means["lr"] = float(self._schedule(step - 1))
        if self._writer is not None:
            self._report(self._writer, step, means)
        return True

    def clips(self, step: int, sheet: np.ndarray) -> None:
        """Takes a picture, uint8 [height, width], of the clips that an update is trained on."""
        if self._writer is not None:
            self._writer.add_image("train/clips", sheet, step, dataformats="HW")

    def scores(self, step: int, scores: Mapping[str, Mapping[str, float]]) -> None:
        """Takes the scores of a test on the way, and leaves the time it took out of the speed.

        Args:
            step: updates done.
            scores: group of probes → figure → percent.
        """
        if self._writer is not None:
            for group, figures in scores.items():
                for figure, value in figures.items():
                    self._writer.add_scalar(f"test/{group}/{figure}", value, step)
        if self._curves is not None:
            tested = {
                f"test/{group}/{figure}": v for group, each in scores.items() for figure, v in each.items()
            }
            self._curves.add(step, tested)
        self._since = time.monotonic()

    def _means(self) -> dict[str, Any]:
        # Waits for the devices; everywhere else the loop runs ahead of them.
        # Of updates that were left out, nothing counts but that they were.
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

    def _report(self, writer: SummaryWriter, step: int, means: Mapping[str, float]) -> None:
        figures = {key: value for key, value in means.items() if key.split("/")[-1] in _SHOWN}
        first = {"loss": figures.pop("loss")}
        shown = "  ".join(f"{key} {value:.4g}" for key, value in (first | figures).items())
        if self._skipped:
            shown += f"  skipped {self._skipped}"
        if self._left_out:
            shown += f"  updates left out {self._left_out}"
        speed = f"{means['sequences_per_second']:.4g} seq/s  {means['frames_per_second']:.4g} frames/s"
        self._waiting.say(f"step {step}/{self._last_step}  {shown}  {speed}")
        for key, value in means.items():
            writer.add_scalar(f"train/{key}", value, step)
        if self._curves is not None:
            self._curves.add(step, {f"train/{key}": value for key, value in means.items()})
        writer.add_scalar("train/sequences_skipped", self._skipped, step)
        writer.add_scalar("train/updates_left_out", self._left_out, step)
        writer.flush()
