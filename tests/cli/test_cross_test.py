"""One model on several datasets, in one table."""

import json
from pathlib import Path

import pytest
from toy_runs import partition_of

from mcl_jax.cli.cross_test import Place, cross_test, places_of
from mcl_jax.cli.program import run
from mcl_jax.errors import ConfigError
from mcl_jax.evaluation.report import Report
from mcl_jax.evaluation.tables import format_cross_table


def test_the_on_flag_takes_dataset_root_and_partition():
    assert places_of(["casiab=/a/b", "gait3d=x,y/Gait3D.json", "casiab=/c/d=e"]) == [
        Place("casiab-b", "casiab", "/a/b", ""),
        Place("gait3d", "gait3d", "x", "y/Gait3D.json"),
        Place("casiab-d=e", "casiab", "/c/d=e", ""),
    ]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--on=casiab"], "--on: is 'casiab'; expected DATASET=ROOT"),
        (["--on=casia=ROOT"], "--on: no 'casia'; there are casiab, grew"),
        (["--on=casiab=/a/x", "--on=casiab=/b/x"], "--on: two datasets are called casiab-x"),
        (["--on=casiab=ROOT", "--config.data.root=R"], "--config.data.root=R: --on sets it"),
        (["--on=casiab=ROOT", "--config.eval.step=3"], "--config.eval.step=3: --model sets it"),
        (["--on=casiab=ROOT", "--config.eval.protocol=none"], "eval.protocol: is none"),
        (["--on=casiab=/nowhere"], "data.root: no folder '/nowhere'"),
        (["--on=casiab=ROOT", "--config=casiab_mcl"], "--config: --model already says"),
        ([], "--model and --on go together"),
    ],
)
def test_mistakes_are_reported_before_anything_is_embedded(toy_run, tmp_path, flags, told, capsys):
    assert run(["test", f"--model={toy_run}", f"--workdir={tmp_path / 'out'}", *flags]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert told in error
    assert not (tmp_path / "out").exists()


def test_the_table_has_a_line_for_each_group_and_gaps_where_a_protocol_has_no_such_figure():
    scores = {
        "gait3d": {"all": {"Rank-1": 64.6, "mAP": 55.3}},
        "casiab": {"NM": {"Rank-1": 50.0}, "mean": {"Rank-1": float("nan")}},
        "grew": {},
    }
    assert format_cross_table("m on 3", scores) == (
        "m on 3\n"
        "              Rank-1      mAP\n"
        "gait3d         64.60    55.30\n"
        "casiab NM      50.00        –\n"
        "casiab mean      n/a        –\n"
        "grew               –        –\n"
    )


def test_one_model_on_several_datasets_is_one_table(toy_run, people, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Report, "_write_pictures", lambda *_: None)
    content = json.loads(Path(partition_of(people)).read_text())
    probes = tmp_path / "probes.json"
    listed = [f"{subject}-nm-05-036" for subject in content["TEST_SET"]]
    probes.write_text(json.dumps(content | {"PROBE_SET": listed}))
    places = places_of([f"walkers={people},{partition_of(people)}", f"gait3d={people},{probes}"])
    folder = cross_test(str(toy_run), places, tmp_path / "out", ["--config.data.workers=0"])
    assert folder == tmp_path / "out" / "test-on-walkers+gait3d"
    metrics = json.loads((folder / "metrics.json").read_text())
    before = json.loads((toy_run / "test" / "metrics.json").read_text())
    assert metrics["model"].pop("checkpoint") == str(toy_run / "checkpoints" / "3")
    before["model"].pop("checkpoint")  # of the run that `toy_run` is a copy of
    assert metrics["model"] == before["model"]
    assert metrics["tests"]["walkers"]["scores"] == before["scores"]
    assert metrics["trained"] == {"dataset": "walkers", "root": str(people)}
    for name in ("walkers", "gait3d"):
        own = json.loads((folder / name / "metrics.json").read_text())
        assert own["scores"] == metrics["tests"][name]["scores"]
        assert own["data"] == metrics["tests"][name]["data"]
        assert own["data"]["dataset"] == name
    table = (folder / "table.txt").read_text()
    assert table == metrics["table"]
    assert table in capsys.readouterr().out
    rows = [line.rsplit(maxsplit=5)[0] for line in table.splitlines()[2:7]]
    assert rows == ["walkers NM", "walkers BG", "walkers CL", "walkers mean", "gait3d"]
    assert f"trained on  walkers, {people}" in table
    probes.write_text(json.dumps(content | {"TEST_SET": content["TEST_SET"][1:], "PROBE_SET": listed[1:]}))
    (tmp_path / "elsewhere").symlink_to(people)
    places = places_of([f"walkers={tmp_path / 'elsewhere'},{probes}", f"gait3d={people},{probes}"])
    with pytest.raises(ConfigError, match=r"walkers: holds a test of .* which this one would overwrite"):
        cross_test(str(toy_run), places, tmp_path / "out", ["--config.data.workers=0"])
