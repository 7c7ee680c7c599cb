"""Weights & Biases offline and MLflow with a store of its own, for real, read back from their files."""

import contextlib
import json
import os
import signal
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from records_of_loggers import wandb_records
from toy_runs import toy_config

from mcl_jax.loggers.logger import LoggedRun
from mcl_jax.loggers.registry import open_loggers
from mcl_jax.train_loop import train

pytestmark = [
    pytest.mark.slow,
    # MLflow's own use of SQLAlchemy.
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
]


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """A home without accounts, an empty folder to be in, and no settings but those of a test."""
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    for module in ("wandb", "mlflow", "sqlalchemy"):
        pytest.importorskip(module)
    for name in ("home", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / "netrc"))
    monkeypatch.chdir(tmp_path / "here")


def children() -> list[str]:
    """Names of the processes that this one has started and that still live."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            name, _, rest = path.read_text().partition("(")[2].rpartition(")")
            state, parent, *_ = rest.split()
            if parent == str(os.getpid()) and state != "Z":
                found.append(name)
    return found


def history(path: Path) -> list[tuple[int, dict]]:
    """The rows of an offline run: step, and name → value as JSON."""
    rows = []
    for record in wandb_records(path):
        if record.WhichOneof("record_type") == "history":
            items = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
            rows.append((record.history.step.num, items))
    return rows


def test_both_log_a_run_and_go_on_with_it(people, tmp_path, monkeypatch, capfd, caplog):
    from mlflow import MlflowClient

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_PROJECT", "gait")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "walkers")
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    threads = {t.name for t in threading.enumerate()}
    workdir, config = tmp_path / "run", toy_config(people)
    config.train.loggers, config.train.test_every = ("wandb", "mlflow"), 2
    for steps in (3, 4):
        config.train.steps = steps
        metrics = train(config, workdir)
    assert not [r for r in caplog.records if r.getMessage().startswith("train.loggers:")]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers
    left = {t.name for t in threading.enumerate()} - threads
    assert not [name for name in left if "logger" in name or "wandb" in name], left
    assert not [name for name in children() if "wandb" in name]
    assert not list((tmp_path / "here").iterdir())
    output = capfd.readouterr()
    assert "wandb" not in output.out + output.err.lower()
    assert "mlflow" not in output.out + output.err.lower()

    # Weights & Biases: a folder for each start, of one run.
    folders = sorted((workdir / "wandb").glob("offline-run-*"))
    assert len(folders) == 2
    (run_id,) = {folder.name.rpartition("-")[2] for folder in folders}
    assert (workdir / "wandb" / "run_id.txt").read_text() == f"{run_id}\n"
    first, second = (history(folder / f"run-{run_id}.wandb") for folder in folders)
    losses = [[step for step, row in rows if "train/loss" in row] for rows in (first, second)]
    assert losses == [[1, 2, 3], [4]]
    tests = [step for step, row in first if "test/NM/Rank-1" in row]
    assert tests == [2, 3]
    assert second[-1][1]["test/mean/Rank-1"] == metrics["scores"]["mean"]["Rank-1"]
    assert second[-1][1]["test/cmc/_type"] == "image-file"
    records = list(wandb_records(folders[1] / f"run-{run_id}.wandb"))
    (started,) = (r.run for r in records if r.WhichOneof("record_type") == "run")
    assert (started.project, started.display_name, started.run_id) == ("gait", "run", run_id)
    assert (started.host, started.git.remote_url) == ("", "")
    updates = [r.config.update for r in records if r.WhichOneof("record_type") == "config"]
    keys = {item.key for update in updates for item in update}
    assert {"train.steps", "loss.mcl.weight", "seed"} <= keys
    kinds = Counter(r.WhichOneof("record_type") for r in records)
    assert not {"stats", "output", "output_raw"} & kinds.keys()
    sent = folders[1] / "files"
    files = {path.relative_to(sent).as_posix() for path in sent.rglob("*") if path.is_file()}
    pages = {"table.txt", "metrics.json", "training.html"}
    assert pages <= files
    assert all(name.startswith("media/images/test/") for name in files - pages)
    assert not any(path.is_symlink() for path in sent.rglob("*"))

    # MLflow: one run in the store of the workdir.
    client = MlflowClient(f"sqlite:///{workdir}/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("walkers")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "run")
    assert run.data.params["train.steps"] == "3"
    assert run.data.params["loss.mcl.weight"] == str(config.loss.mcl.weight)
    assert [m.step for m in client.get_metric_history(run.info.run_id, "train/loss")] == [1, 2, 3, 4]
    assert [m.step for m in client.get_metric_history(run.info.run_id, "test/NM/Rank-1")] == [2, 3, 4]
    artifacts = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert artifacts == {
        *("table.txt", "metrics.json", "cmc.png", "heatmap.png", "roc.png", "det.png", "training.html")
    }
    assert {tag for tag in run.data.tags if tag.startswith("mlflow.source")} == set()
    stored = workdir / "mlflow" / "artifacts" / run.info.run_id / "artifacts" / "table.txt"
    assert stored.read_text() == metrics["table"]


def test_without_login_or_network_a_warning_is_all(tmp_path, monkeypatch, caplog, capfd):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with open_loggers(("wandb", "mlflow"), LoggedRun(tmp_path / "run", 0, {"seed": 1})) as loggers:
        loggers.figures(1, {"train/loss": 0.5})
    said = sorted(r.getMessage() for r in caplog.records if "train.loggers" in r.getMessage())
    assert len(said) == 2
    assert said[0].startswith("train.loggers: mlflow failed: ")
    assert "127.0.0.1" in said[0]
    assert said[1].startswith(
        "train.loggers: wandb failed: nobody is logged in: `wandb login`, or WANDB_MODE"
    )
    caplog.clear()
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
    with open_loggers(("wandb",), LoggedRun(tmp_path / "run", 0, {"seed": 1})) as loggers:
        loggers.figures(1, {"train/loss": 0.5})
    (line,) = [r.getMessage() for r in caplog.records if "train.loggers" in r.getMessage()]
    assert line.startswith("train.loggers: wandb failed: ")
    assert "\n" not in line
    assert "wandb" not in capfd.readouterr().out
    assert not list((tmp_path / "here").iterdir())


def test_mlflow_begins_anew_where_its_run_is_gone_and_takes_any_name(tmp_path, caplog):
    from mlflow import MlflowClient

    workdir = tmp_path / "run"
    LoggedRun(workdir, 0, {}).keep_id("mlflow", "0" * 32)
    with open_loggers(("mlflow",), LoggedRun(workdir, 0, {"data.root": "", "batch": (8, 16)})) as loggers:
        loggers.figures(1, {"test/bg@90°/FAR=0.1": np.float32(50), "train/loss": float("nan")})
    assert not [r for r in caplog.records if r.getMessage().startswith("train.loggers:")]
    client = MlflowClient(f"sqlite:///{workdir}/mlflow/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("mcl_jax").experiment_id])
    assert run.data.metrics["test/bg_90_/FAR_0.1"] == 50
    assert run.data.params == {"data.root": "", "batch": "(8, 16)"}
    assert LoggedRun(workdir, 0, {}).kept_id("mlflow") == run.info.run_id
