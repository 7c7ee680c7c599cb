"""Logs to MLflow: to the server or store of MLFLOW_TRACKING_URI, else to WORKDIR/mlflow.

Only its client is used: no run is active in the process, and nothing is gathered from machine and code.
"""

import contextlib
import logging as std_logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mcl_jax.loggers.logger import PROJECT, LoggedRun

NAME = "mlflow"

_MOST_PARAMS = 100  # in one call
_REFUSED = re.compile(r"[^\w\-./ :]")
"""Characters that a name may not have."""


class MLflow:
    """One run of MLflow for all starts of a run."""

    def __init__(self, run: LoggedRun) -> None:
        """Begins or continues the run; the first start creates the store, which takes seconds."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow  # of the extra `mlflow`

        std_logging.getLogger("mlflow").setLevel(std_logging.WARNING)
        own = run.workdir.absolute() / NAME
        given = os.environ.get("MLFLOW_TRACKING_URI")
        if not given:
            own.mkdir(parents=True, exist_ok=True)
        self._client = mlflow.MlflowClient(tracking_uri=given or f"sqlite:///{own / 'mlflow.db'}")
        before = self._kept_run(run)
        if before is None:
            self._id = self._new_run(run, None if given else (own / "artifacts").as_uri())
            run.keep_id(NAME, self._id)
        else:
            self._id = before.info.run_id
            self._client.update_run(self._id, status="RUNNING")
        self._log_config(run, before.data.params if before else {})

    def _kept_run(self, run: LoggedRun) -> Any:
        """Returns the run of an earlier start; None if the store has none."""
        from mlflow.exceptions import MlflowException

        run_id = run.kept_id(NAME)
        if run_id is None:
            return None
        try:
            kept = self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return kept if kept.info.lifecycle_stage == "active" else None

    def _new_run(self, run: LoggedRun, artifacts: str | None) -> str:
        from mlflow.exceptions import MlflowException

        experiment = os.environ.get("MLFLOW_EXPERIMENT_ID")
        if not experiment:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
            if self._client.get_experiment_by_name(name) is None:
                with contextlib.suppress(MlflowException):  # another run has made it meanwhile
                    self._client.create_experiment(name, artifact_location=artifacts)
            experiment = self._client.get_experiment_by_name(name).experiment_id
        return self._client.create_run(experiment, run_name=run.name).info.run_id

    def _log_config(self, run: LoggedRun, known: Mapping[str, str]) -> None:
        """Logs the keys of the config that are new; MLflow lets none be changed."""
        from mlflow.entities import Param

        params = [Param(_name(key), str(v)) for key, v in run.config.items() if _name(key) not in known]
        for i in range(0, len(params), _MOST_PARAMS):
            self._client.log_batch(self._id, params=params[i : i + _MOST_PARAMS])

    def figures(self, step: int, figures: Mapping[str, float]) -> None:
        """Logs metrics."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(_name(name), float(value), now, step) for name, value in figures.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def clips(self, step: int, sheet: np.ndarray) -> None:
        """Leaves out the picture, because it shows people."""

    def report(self, step: int, scores: Mapping[str, float], files: Sequence[Path]) -> None:
        """Logs scores of the last step, and files as artifacts."""
        self.figures(step, scores)
        for path in files:
            self._client.log_artifact(self._id, str(path))

    def close(self, *, finished: bool) -> None:
        """Sets the final status: FINISHED, or KILLED for a run that ended early and may continue later."""
        self._client.set_terminated(self._id, status="FINISHED" if finished else "KILLED")


def _name(text: str) -> str:
    return _REFUSED.sub("_", text)
