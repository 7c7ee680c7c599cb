"""Loggers of a run: what they get, and that none of them ends or holds up training."""

import sys
import threading

import pytest
from preempted import AfterOneStep
from records_of_loggers import Full, Hanging, Recorder, away, board_events, leaves
from toy_runs import toy_config

from mcl_jax.config import validate
from mcl_jax.errors import ConfigError
from mcl_jax.loggers import background
from mcl_jax.loggers.logger import LoggedRun, names_of_scores
from mcl_jax.loggers.registry import LOGGERS, Kind, open_loggers
from mcl_jax.runtime.preemption import PreemptedError
from mcl_jax.train_loop import train
from mcl_jax.utils.extras import MissingExtraError


@pytest.fixture
def opened(monkeypatch):
    """Adds loggers of the tests; returns those that were opened."""
    opened = []

    def add(name, kind):
        def open_logger(run):
            logger = kind(run)  # in a thread of its own
            opened.append(logger)
            return logger

        monkeypatch.setitem(LOGGERS, name, Kind("train", open_logger))

    for name, kind in {
        "recorder": Recorder,
        "full": Full,
        "hanging": Hanging,
        "away": away,
        "leaves": leaves,
    }.items():
        add(name, kind)
    yield opened
    Hanging.go.set()
    for thread in threading.enumerate():
        if thread.name.startswith("logger "):
            thread.join()
    Hanging.go.clear()


def of_kind(kind: type, loggers: list) -> list:
    return [logger for logger in loggers if type(logger) is kind]


def warnings_of(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if "train.loggers" in r.getMessage()]


def test_scores_of_nothing_are_left_out():
    scores = {"NM": {"Rank-1": 50.0}, "BG": {"Rank-1": float("nan")}}
    assert names_of_scores(scores) == {"test/NM/Rank-1": 50.0}


class AfterOneLoggedStep(AfterOneStep):
    """Sees, too, whether the loggers are closed before the state counts as saved."""

    def __init__(self) -> None:
        super().__init__()
        self.closed_before_saved = False
        self.loggers: list[Recorder] = []

    def note_saved(self, step) -> None:
        if step:
            self.closed_before_saved = of_kind(Recorder, self.loggers)[0].calls[-1] == ("close", False)
        super().note_saved(step)


@pytest.mark.slow
def test_a_run_that_is_stopped_and_goes_on_is_logged_whole_whatever_fails(
    people, tmp_path, opened, caplog, monkeypatch
):
    monkeypatch.setattr("mcl_jax.train_loop._LEAVING_SECONDS", 300.0)  # a busy machine is no failure
    config = toy_config(people)
    config.train.test_every, config.train.steps = 2, 3
    config.train.loggers = ("tensorboard", "recorder", "full", "away", "leaves")
    stop = AfterOneLoggedStep()
    stop.loggers = opened
    with pytest.raises(PreemptedError, match="saved step 1"):
        train(config, tmp_path, preemption=stop)
    (first,) = of_kind(Recorder, opened)
    assert (first.run.start, first.run.name, first.run.config["train.steps"]) == (0, tmp_path.name, 3)
    assert first.names() == ["clips", "figures", "close"]
    assert stop.closed_before_saved  # else the process could end before its loggers have everything
    assert sorted(line.split(";")[0] for line in warnings_of(caplog)) == [
        "train.loggers: away failed: no route to host",
        "train.loggers: full failed: the disk is full",
        "train.loggers: leaves failed: a library that ends the process",
    ]
    assert of_kind(Full, opened)[0].names() == ["clips", "figures", "close"]

    config.train.loggers = ("tensorboard", "recorder")  # not a change that matters
    metrics = train(config, tmp_path)
    second = of_kind(Recorder, opened)[1]
    assert second.run.start == 1
    assert second.names() == ["clips", "figures", "figures", "figures", "report", "close"]
    steps = {step: set() for step in (2, 3)}
    for call in second.calls[1:4]:
        steps[call[1]] |= set(call[2])
    assert {"train/loss", "train/lr", "train/sequences_skipped", "test/NM/Rank-1"} <= steps[2]
    assert "test/NM/Rank-1" not in steps[3]
    _, step, scores, files = second.calls[4]
    assert (step, scores["test/mean/Rank-1"]) == (3, metrics["scores"]["mean"]["Rank-1"])
    assert files == [
        *("table.txt", "metrics.json", "cmc.png", "heatmap.png", "roc.png", "det.png"),  # no people
        "training.html",
    ]
    assert second.calls[-1] == ("close", True)

    events = list(board_events(tmp_path / "tensorboard"))
    assert [step for tag, step in events if tag == "train/loss"] == [1, 2, 3]
    assert [step for tag, step in events if tag == "train/clips"] == [1, 2]
    assert [step for tag, step in events if tag == "test/NM/Rank-1"] == [2]
    assert "recorder" not in {path.name for path in tmp_path.iterdir()}


def test_the_default_writes_the_figures_of_every_report_to_tensorboard(toy_run):
    events = list(board_events(toy_run / "tensorboard"))
    names = {tag.removeprefix("train/") for tag, _ in events}
    assert {"clips", "loss", "lr", "sequences_per_second", "frames_per_second"} <= names
    assert {"sequences_skipped", "updates_left_out"} <= names
    assert [step for tag, step in events if tag == "train/loss"] == [1, 2, 3]


def test_a_logger_that_hangs_holds_up_neither_a_report_nor_the_end(tmp_path, opened, caplog):
    loggers = open_loggers(("hanging",), LoggedRun(tmp_path, 0, {}))
    for step in (1, 2, 3):
        loggers.figures(step, {"train/loss": 0.5})
    for _ in range(2):
        loggers.close(finished=True, within=0.0)
    assert warnings_of(caplog) == [
        "train.loggers: hanging failed: it has not taken everything in time; it gets nothing more, and the "
        "run goes on"
    ]


def test_reports_do_not_heap_up_behind_a_logger_that_hangs(tmp_path, opened, caplog, monkeypatch):
    monkeypatch.setattr(background, "_MOST_WAITING", 2)
    with open_loggers(("hanging",), LoggedRun(tmp_path, 0, {})) as loggers:
        for step in range(1, 9):
            loggers.figures(step, {"train/loss": 0.5})
        Hanging.go.set()
    assert len(warnings_of(caplog)) == 1
    assert "hanging failed: it is 2 reports behind" in warnings_of(caplog)[0]
    assert opened[0].calls[-1] == ("close", False)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("comet",), r"^train\.loggers: no 'comet'; there are tensorboard, wandb, mlflow$"),
        ("wandb", r"^train\.loggers: is wandb; expected names in brackets, such as \('tensorboard',\)$"),
        ((1,), r"^train\.loggers: is \(1,\); expected names in brackets"),
    ],
)
def test_names_that_are_none_are_refused(people, names, message):
    config = toy_config(people)
    with config.ignore_type():
        config.train.loggers = names
    with pytest.raises(ConfigError, match=message):
        validate(config)


@pytest.mark.parametrize(
    ("name", "missing", "extra"),
    [("wandb", "wandb", "wandb"), ("mlflow", "mlflow", "mlflow"), ("mlflow", "sqlalchemy", "mlflow")],
)
def test_a_logger_that_is_not_installed_is_refused_before_the_first_step(
    people, tmp_path, monkeypatch, name, missing, extra
):
    monkeypatch.setitem(sys.modules, missing, None)
    config = toy_config(people)
    config.train.loggers = ("tensorboard", name)
    message = rf"^train\.loggers: {name} needs \w+: pip install 'mcl_jax\[{extra}\]'$"
    with pytest.raises(MissingExtraError, match=message):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [None, b"", b"../../x", b"a" * 200, b"\xff\xfe"])
def test_an_id_that_is_damaged_begins_a_new_run(tmp_path, content):
    run = LoggedRun(tmp_path, 0, {})
    if content is not None:
        (tmp_path / "wandb").mkdir()
        (tmp_path / "wandb" / "run_id.txt").write_bytes(content)
    assert run.kept_id("wandb") is None
    run.keep_id("wandb", "0a1b2c3d")
    assert run.kept_id("wandb") == "0a1b2c3d"
    assert run.kept_id("mlflow") is None
