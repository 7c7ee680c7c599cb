"""Logs to Weights & Biases, or in its offline mode to WORKDIR/wandb.

The user's own settings and environment variables count: WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY, WANDB_NAME
and all others that say where a run goes. What its library gathers by itself is switched off.
"""

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from mcl_jax.errors import UserError
from mcl_jax.loggers.logger import PROJECT, LoggedRun

NAME = "wandb"

_FINISH_SECONDS = 30.0

# Nothing about the machine, the code or other packages leaves it; the terminal and signals are the run's.
_SETTINGS: dict[str, Any] = {
    "console": "off",
    "silent": True,
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "host": "",
    "save_code": False,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
    "symlink": False,  # copies of the files stay as they are when the run goes on
    "finish_timeout": _FINISH_SECONDS,  # of its hook at the end of the process, too
}


class WandB:
    """One run of Weights & Biases for all starts of a run."""

    def __init__(self, run: LoggedRun) -> None:
        """Begins or continues the run.

        Raises:
            UserError: if nobody is logged in; its library would ask for a key in the terminal.
        """
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        os.environ.setdefault("WANDB_INIT_TIMEOUT", "30")  # seconds without an answer
        import wandb  # of the extra `wandb`

        self._wandb = wandb
        self._alone = wandb.run is None  # else the caller's own run needs the library's process
        try:
            self._run = self._begin(run)
        except BaseException:
            self._end_library()
            raise

    def _begin(self, run: LoggedRun) -> Any:
        """Returns the library's run.

        Raises:
            UserError: if nobody is logged in.
        """
        settings = self._wandb.Settings(**_SETTINGS, stop_fn=_ignore_stop)
        given = self._wandb.setup(settings).settings  # by environment variables and the library's own files
        if given.mode in ("online", "shared") and not self._wandb.login(prompt=False, verify=False):
            raise UserError("nobody is logged in: `wandb login`, or WANDB_MODE=offline")
        run_id = given.run_id or run.kept_id(NAME) or secrets.token_hex(4)
        run.keep_id(NAME, run_id)
        begun = self._wandb.init(
            project=given.project or PROJECT,
            name=given.run_name or run.name,
            dir=os.environ.get("WANDB_DIR") or str(run.workdir),
            id=run_id,
            resume="allow",
            reinit="create_new",
            settings=settings,
        )
        begun.config.update(dict(run.config), allow_val_change=True)
        if begun.url:
            logging.info("wandb: %s", begun.url)
        return begun

    def figures(self, step: int, figures: Mapping[str, float]) -> None:
        """Logs a row; a step that was logged before a restart has the same figures, and stays."""
        self._run.log(dict(figures), step=step)

    def clips(self, step: int, sheet: np.ndarray) -> None:
        """Leaves out the picture, because it shows people."""

    def report(self, step: int, scores: Mapping[str, float], files: Sequence[Path]) -> None:
        """Logs scores and pictures of the last step, and adds the other files to those of the run."""
        pictures = {f"test/{p.stem}": self._wandb.Image(str(p)) for p in files if p.suffix == ".png"}
        self._run.log({**scores, **pictures}, step=step)
        self._run.summary.update(dict(scores))
        for path in files:
            if path.suffix != ".png":
                self._run.save(str(path), base_path=str(path.parent), policy="now")

    def close(self, *, finished: bool) -> None:
        """Sends the rest, and ends the library's process and threads."""
        self._run.finish(exit_code=0 if finished else 1)
        self._end_library()

    def _end_library(self) -> None:
        if self._alone:
            self._wandb.teardown()


def _ignore_stop() -> None:
    """Stands in for the library's SIGINT when the run is stopped on its page."""
    logging.warning("wandb: the run is not stopped from its page; press Ctrl-C here")
