"""Logs to TensorBoard's files, in WORKDIR/tensorboard."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mcl_jax.loggers.logger import LoggedRun

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter


class TensorBoard:
    """A file for every start of a run; it is made when it is first written to."""

    def __init__(self, run: LoggedRun) -> None:
        # It imports PyTorch if that is installed, which takes seconds.
        import tensorboardX  # of the extra `train`

        self._folder, self._start = run.workdir / "tensorboard", run.start
        self._kind = tensorboardX.SummaryWriter
        self._opened: SummaryWriter | None = None

    def figures(self, step: int, figures: Mapping[str, float]) -> None:
        """Writes scalars, at once."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def clips(self, step: int, sheet: np.ndarray) -> None:
        """Writes the picture."""
        self._writer.add_image("train/clips", sheet, step, dataformats="HW")

    def report(self, step: int, scores: Mapping[str, float], files: Sequence[Path]) -> None:
        """Writes nothing: the test at the end has a folder of its own beside TensorBoard's."""

    def close(self, *, finished: bool) -> None:
        """Closes the file."""
        if self._opened is not None:
            self._opened.close()

    @property
    def _writer(self) -> "SummaryWriter":
        if self._opened is None:
            # It hides what earlier files have of this step and later ones.
            self._opened = self._kind(str(self._folder), purge_step=self._start + 1)
        return self._opened
