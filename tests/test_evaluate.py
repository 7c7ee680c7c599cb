"""Testing a trained model: the files it writes, and the origin recorded in them."""

import datetime
import json
import os
import shutil
from pathlib import Path

import pytest
from forked import run_main
from toy_runs import ROOT

import mcl_jax
from mcl_jax.cli import program
from mcl_jax.workdir.checkpoint_table import table


def test_a_result_names_its_weights_its_data_and_its_version(toy_run, people):
    metrics = json.loads((toy_run / "test" / "metrics.json").read_text())
    digest = mcl_jax.load(toy_run).digest
    checkpoint = metrics["model"]["checkpoint"]  # of the run that `toy_run` is a copy of
    assert Path(checkpoint).parts[-2:] == ("checkpoints", "3")
    embedding = {"parts": 16, "channels": 3, "precision": "float32", "max_frames": 720}
    named = {"name": "gaitbase", "digest": digest, "checkpoint": checkpoint, "step": 3}
    assert metrics["model"] == named | {"embedding": embedding}
    assert (metrics["data"]["dataset"], metrics["data"]["root"]) == ("walkers", str(people))
    assert metrics["made"]["mcl_jax"] == mcl_jax.__version__
    assert datetime.datetime.fromisoformat(metrics["made"]["date"]).tzinfo
    *_, last = (toy_run / "test" / "table.txt").read_text().split("\n\n")
    assert [line.split(maxsplit=1) for line in last.splitlines()] == [
        ["protocol", "casiab, euc"],
        ["model", f"gaitbase, step 3, digest {digest[:12]}"],
        ["checkpoint", checkpoint],
        ["embedding", "16 parts × 3 channels, float32, first 720 frames"],
        ["data", f"walkers, {people}"],
        ["made", f"{metrics['made']['date']}, mcl_jax {mcl_jax.__version__}"],
    ]
    page = (toy_run / "test" / "report.html").read_text()
    assert all(value in page for value in (checkpoint, digest[:12], str(people), metrics["made"]["date"]))
    assert digest[:12] in table(toy_run)


def test_a_run_is_tested_and_resumed_with_its_own_config(toy_run, tmp_path, capsys):
    run = Path(shutil.copytree(toy_run, tmp_path / "run"))
    stretch = json.loads((run / "stretches.jsonl").read_text())
    stretch["config"]["init_from"] = "/nowhere.pt"  # as of a run that was fine-tuned
    (run / "stretches.jsonl").write_text(json.dumps(stretch) + "\n")
    (run / "test" / "metrics.json").unlink()
    done = run_main(["--phase=test", f"--workdir={run}"], dict(os.environ), ROOT)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((run / "test" / "metrics.json").read_text())
    assert metrics["model"]["checkpoint"] == str(run / "checkpoints" / "3")
    assert metrics["scores"] == json.loads((toy_run / "test" / "metrics.json").read_text())["scores"]
    assert json.loads((run / "config_test.json").read_text())["init_from"] == ""
    assert program.run(["train", "--workdir", str(run), "--config.train.log_every=-1"]) == 1
    assert "train.log_every: is -1" in capsys.readouterr().err


@pytest.mark.slow
def test_a_test_explains_its_worst_confusions(toy_run, tmp_path):
    run = Path(shutil.copytree(toy_run, tmp_path / "run"))
    assert program.run(["test", "--workdir", str(run), "--config.eval.explain=2"]) == 0
    report = (run / "test" / "report.html").read_text()
    for number in (1, 2):
        page = (run / "test" / f"confusion-{number}.html").read_text()
        assert f'href="confusion-{number}.html"' in report
        assert page.count('class="shares"') == 2
