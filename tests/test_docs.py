"""Runs the examples of README and docs/, in order, in a folder with the files they name."""

import itertools
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

import mcl_jax
from mcl_jax.build import build_dataset, build_train_loader
from mcl_jax.cli.overrides import parse_config
from mcl_jax.config import validate
from mcl_jax.data.datasets import DATASETS
from mcl_jax.evaluate import require_scorable
from mcl_jax.losses import LOSSES
from mcl_jax.models import MODELS

ROOT = Path(__file__).resolve().parents[1]


def examples(page: str) -> list[str]:
    """Returns the Python examples of a page."""
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def run_examples(page: str, names: dict | None = None) -> dict:
    names = names or {}
    found = examples(page)
    assert found, page
    for number, source in enumerate(found, start=1):
        exec(compile(source, f"{page}, example {number}", "exec"), names)
    return names


def test_the_examples_of_the_readme_run(toy_run, people, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "casiab_mcl").symlink_to(toy_run)
    (tmp_path / "CASIA-B-pkl").mkdir()
    for source in people.iterdir():  # the last three people stand for the test subjects 075 to 124
        if source.is_dir():
            (tmp_path / "CASIA-B-pkl" / f"{int(source.name) + 71:03d}").symlink_to(source)
    (tmp_path / "walks").mkdir()
    for name, subject in zip("abc", ("004", "005", "006"), strict=True):
        (tmp_path / "walks" / name).symlink_to(people / subject / "nm-01" / "090")
    names = run_examples("README.md")
    ranking = capsys.readouterr().out.splitlines()[:2]
    assert sorted(line.split()[1] for line in ranking) == ["walks/b", "walks/c"]
    assert names["x"].shape == (3, names["gait"].parts, names["gait"].channels)
    assert names["d"].shape == (2,)
    assert set(names["report"].scores) == {"NM", "BG", "CL", "mean"}
    assert (tmp_path / "report" / "metrics.json").is_file()


@pytest.fixture
def tables_as_they_were():
    """For examples that add entries."""
    before = [(table, dict(table)) for table in (MODELS, LOSSES, DATASETS)]
    yield
    for table, entries in before:
        table.clear()
        table.update(entries)


def test_a_model_a_loss_and_a_dataset_from_outside(people, tmp_path, monkeypatch, tables_as_they_were):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corridor").symlink_to(people)
    names = run_examples("docs/extending.md")
    assert set(names["metrics"]["scores"]) == {"NM", "BG", "CL", "mean"}
    assert (tmp_path / "runs" / "outline" / "test" / "retrieval.png").is_file()
    gait = names["gait"]
    assert (gait.name, gait.arguments) == ("outline", {"strips": 4, "embed_dim": 4})
    assert (gait.parts, gait.channels, gait.parameters, gait.step) == (4, 4, 4 * 44 * 4, 3)


@pytest.mark.slow
def test_the_model_over_time_of_the_page_keeps_its_promises(tables_as_they_were):
    names: dict = {}
    for source in examples("docs/extending.md")[:2]:
        exec(source, names)
    assert len(mcl_jax.check_model(names["Sway"], strips=4)) >= 4


def test_the_reference_has_every_public_name_once():
    named = re.findall(r"^::: mcl_jax\.(\w+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(mcl_jax.__all__)


def test_the_steps_for_own_data_fit_together(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "data.md").read_text().partition("## Your own data")[2].partition("\n## ")[0]
    partition, protocol = re.findall(r"^ {7}(\{.*\})$", page, re.MULTILINE)
    keys = re.findall(r"--config\.(?:data|eval|train)\.\S+?=(?:\(.*?\)|\S+)", page)
    monkeypatch.chdir(tmp_path)
    Path("mine.json").write_text(partition)
    Path("hall.json").write_text(protocol)
    frames = np.zeros((8, 64, 64), np.uint8)
    frames[:, :, 20:44] = 255
    people = json.loads(partition)
    subjects = people["TRAIN_SET"] + people["TEST_SET"]
    for subject, condition in itertools.product(subjects, ("day-01", "night-01")):
        folder = Path("mine", subject, condition, "hall")
        folder.mkdir(parents=True)
        (folder / "hall.pkl").write_bytes(pickle.dumps(frames))
    config = parse_config("casiab_mcl", keys)
    validate(config)
    dataset = build_dataset(config)
    assert len(require_scorable(config, dataset).sequences) == 4
    assert build_train_loader(config, dataset.train_split()).shapes[0].rows == 12
