"""The program mcl-jax: its help, its exit codes, and the keys of a config on its command line."""

import argparse
import json
import subprocess
import sys

import pytest

from mcl_jax.cli.commands import COMMANDS, command_module, help_line
from mcl_jax.cli.overrides import parse_config
from mcl_jax.cli.program import run, run_command
from mcl_jax.config import validate
from mcl_jax.data.datasets import DATASETS
from mcl_jax.errors import ConfigError
from mcl_jax.models import MODELS
from mcl_jax.models.registry import complete_block


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_its_flags_and_examples_and_ends_with_0(name, capsys):
    with pytest.raises(SystemExit) as end:
        run([name, "--help"])
    assert end.value.code == 0
    told = capsys.readouterr().out
    assert told.startswith(f"usage: mcl-jax {name} ")
    assert f"  mcl-jax {name}" in told.split("examples:")[1]
    module = command_module(name)
    assert help_line(name) == module.HELP
    assert module.HELP[0].islower()
    assert "\n" not in module.HELP


@pytest.mark.parametrize("argv", [[], ["--help"]])
def test_help_lists_the_commands(argv, capsys):
    with pytest.raises(SystemExit) as end:
        run(argv)
    assert end.value.code == 0
    told = capsys.readouterr().out
    assert all(f"\n  {name:<12} {help_line(name)}" in told for name in COMMANDS)


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["dance"], "invalid choice: 'dance'"),
        (["train", "--no_such_flag"], "unrecognized arguments: --no_such_flag"),
        (["train", "--config", "casiab_mcl", "extra"], "unrecognized arguments: extra"),
        (["score", "--protocol", "casiab"], "required: --embeddings, --out"),
        (["score", "--embeddings=E", "--protocol=casiab", "--out=O", "--config.seed=1"], "--config.seed=1"),
        (["walkers"], "nothing to do"),
        (
            ["identify", "--gallery=G", "--threshold=inf", "w.pkl"],
            "--threshold: is 'inf'; must be a finite number",
        ),
        (["identify", "--gallery=G", "--threshold=1e999", "w.pkl"], "must be a finite number"),
        (["identify", "--gallery=G", "--far=nan", "w.pkl"], "--far: is 'nan'; must be a finite number"),
        (["walkers", "--frames-per-second=nan"], "must be a finite number"),
        (["compare", "--far=-inf", "a.pkl", "b.pkl"], "must be a finite number"),
    ],
)
def test_flags_that_cannot_be_read_end_with_2(argv, told, capsys):
    with pytest.raises(SystemExit) as end:
        run(argv)
    assert end.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["train"], "--config is missing"),
        (["train", "--config", "casia"], "no file 'casia', and no recipe of that name"),
        (["config", "casiab_mcl", "--config.train.stepz=3"], "there is no config key 'stepz'"),
        (["config", "casiab_mcl", "--config.train.steps=many"], "command line: "),
        (["config", "casiab_mcl", "--config.eval.metric=l1"], "eval.metric: no 'l1'"),
        (["test", "--config", "casiab_mcl", "--config.data.root=nowhere"], "nowhere"),
        (["test", "--workdir", "nowhere"], "nowhere: not a run of mcl-jax train"),
        (["config", "casiab_mcl", "--config.loss.mlc.weight=1"], "there are triplet, mcl, cross_entropy"),
        (
            ["config", "casiab_mcl", "--config.loss.triplet.margin=1"],
            "loss.triplet: the config has no such loss; --config.loss.triplet.weight=1 would add it",
        ),
        (["config", "casiab_mcl", "--config.loss.triplet.weight=a"], "config.loss.triplet.weight=a"),
        (["config", "casiab_mcl", "--config.loss.triplet.weight=-1"], "must not be negative"),
        (["config", "casiab_mcl", "--config.optimizer.name=adagrad"], "there are sgd, adam, adamw"),
        (
            ["config", "casiab_mcl", "--config.schedule.name=cosine"],
            "schedule.steps: cosine needs this argument",
        ),
        (["config", "casiab_mcl", "--config.model.name=[1]"], "model.name: no '[1]'; there are gaitset"),
        (
            ["config", "casiab_mcl", "grew_mcl", "--config.seed=1"],
            "--config.seed=1: cannot be set when two recipes",
        ),
    ],
)
def test_a_mistake_is_one_line_and_ends_with_1(argv, told, capsys):
    assert run(argv) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert told in message
    assert message.count("\n") == 1


def test_keys_of_a_config_come_with_or_without_an_equals_sign(capsys):
    line = ["config", "casiab_mcl", "--config.train.steps", "7", "--config.model.channels=(2,2,3,3)"]
    assert run(line) == 0
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert told["train.steps"] == "7"
    assert told["model.channels"] == "(2, 2, 3, 3)"
    assert told["eval.metric"] == "'euc'"


def test_a_config_is_the_recipe_with_the_keys_of_this_call_alone():
    assert parse_config("casiab_mcl", ["--config.seed=5"]).seed == 5
    assert parse_config("casiab_mcl", []).seed == 0
    with pytest.raises(ConfigError, match="there is no config key 'sed'"):
        parse_config("casiab_mcl", ["--config.sed=5"])


def test_losses_and_other_parts_can_be_added():
    config = parse_config("casiab_triplet", ["--config.loss.mcl.weight=1", "--config.loss.mcl.gamma=0.5"])
    assert config.loss.mcl.to_dict() == {"weight": 1.0, "margin": 0.6, "gamma": 0.5}
    assert config.loss.triplet.weight == 1.0
    keys = [
        "--config.optimizer.name=adamw",
        "--config.schedule.name=cosine",
        "--config.schedule.steps=900",
        "--config.model.name=gaitset",
        "--config.loss.cross_entropy.weight=0",
    ]
    config = parse_config("casiab_mcl", keys)
    assert config.optimizer.to_dict() == {
        **{"name": "adamw", "lr": 0.1, "weight_decay": 0.01},
        **{"clip_norm": 0.0, "groups": ()},
    }
    assert config.schedule.to_dict() == {"name": "cosine", "steps": 900, "warmup": 0}
    assert config.model.to_dict() == complete_block({"name": "gaitset"})
    validate(config)


def test_two_recipes_show_the_keys_that_differ(capsys):
    assert run(["config", "casiab_mcl", "casiab_triplet"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["casiab_mcl", "casiab_triplet"]
    assert ["loss.mcl.weight", "1.0", "absent"] in rows
    assert ["loss.triplet.margin", "absent", "0.2"] in rows
    assert all(row[0].startswith("loss.") for row in rows[1:])
    assert run(["config", "casiab_mcl", "casiab_mcl"]) == 0
    assert capsys.readouterr().out == "no key differs\n"


def test_a_run_has_its_own_config_with_defaults_of_keys_that_came_later(tmp_path, capsys):
    config = parse_config("casiab_mcl", ["--config.train.steps=7"])
    plain = json.loads(config.to_json_best_effort())
    del plain["eval"]["max_frames"]
    (tmp_path / "stretches.jsonl").write_text(
        json.dumps({"config": {}}) + "\n" + json.dumps({"config": plain})
    )
    assert parse_config(str(tmp_path), []).to_dict() == config.to_dict()
    assert run(["config", "casiab_mcl", str(tmp_path)]) == 0
    _, row = capsys.readouterr().out.splitlines()
    assert row.split() == ["train.steps", "60000", "7"]
    plain["train"]["later"] = 1
    (tmp_path / "stretches.jsonl").write_text(json.dumps({"config": plain}))
    with pytest.raises(
        ConfigError, match=r"its config comes from another version: .*'train.later'.*give --config"
    ):
        parse_config(str(tmp_path), [])


def test_scripts_have_their_own_help_texts(capsys):
    with pytest.raises(SystemExit):
        run_command("score", ["--help"], prog="score.py", description="Scores.\n\nscore.py --out O")
    told = capsys.readouterr().out
    assert told.startswith("usage: score.py ")
    assert "Scores.\n\nscore.py --out O" in told


def test_help_of_the_program_of_a_run_ends_with_0_and_has_the_keys():
    line = [sys.executable, "-m", "mcl_jax.main", "--help"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""
    for part in ("RECIPE is a file", "--max_minutes", "Save and exit", "--config.train.on_nonfinite="):
        assert part in done.stdout


def test_a_command_takes_no_abbreviated_flags():
    """Else a new flag could change what an old script means."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    command_module("score").add_arguments(parser)
    with pytest.raises(SystemExit):
        run(["score", "--emb=E", "--protocol=casiab", "--out=O"])


@pytest.fixture
def own_modules(tmp_path, monkeypatch):
    """A folder with a module of a user's own and a recipe beside it, and tables as they were afterwards."""
    for table in (MODELS, DATASETS):
        for name in ("own_outline", "own_corridor"):
            monkeypatch.setitem(table, name, None)
            monkeypatch.delitem(table, name)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "own_parts.py").write_text(
        "from mcl_jax.data.datasets import DATASETS, Dataset\n"
        "from mcl_jax.models import MODELS\n"
        "MODELS['own_outline'] = MODELS['gaitset']\n"
        "DATASETS['own_corridor'] = Dataset(protocol='casiab')\n"
    )
    (folder / "own_recipe.py").write_text(
        "from mcl_jax.config import make_config\n"
        "from own_parts import MODELS\n"
        "def get_config():\n"
        "    return make_config(model={'name': 'own_outline'}, loss={'triplet': {}})\n"
    )
    yield folder
    sys.modules.pop("own_parts", None)


def test_a_recipe_finds_the_modules_beside_it(own_modules, capsys):
    assert run(["config", "mine/own_recipe.py"]) == 0
    assert "'own_outline'" in capsys.readouterr().out


@pytest.mark.parametrize("module", ["mine/own_parts.py", "own_parts"])
def test_any_command_can_import_user_modules(own_modules, module, capsys, monkeypatch):
    monkeypatch.chdir(own_modules if "/" not in module else own_modules.parent)
    with pytest.raises(SystemExit) as end:
        run(["prepare", "--import", module, "--help"])
    assert end.value.code == 0
    assert "own_corridor" in capsys.readouterr().out.split("\n\n")[0]


def test_missing_modules_and_unknown_models_are_explained(own_modules, capsys):
    assert run(["config", "--import=own_part", "casiab_mcl"]) == 1
    assert "error: --import: no module 'own_part' here or where" in capsys.readouterr().err
    assert run(["config", "--import=mine/own_part.py", "casiab_mcl"]) == 1
    assert "error: --import: no file 'mine/own_part.py'" in capsys.readouterr().err
    assert run(["config", "casiab_mcl", "--config.model.name=own_outline"]) == 1
    assert "import the module of one of your own: --import MODULE" in capsys.readouterr().err
    (own_modules / "own_parts.py").write_text("import no_such_package\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        run(["config", "--import=mine/own_parts.py", "casiab_mcl"])
