"""`mcl-jax describe`, without a compiler for GPUs and with given estimates."""

import json

import pytest
from toy_runs import TOY_MODELS, toy_config_of

from mcl_jax import describe
from mcl_jax.cli import program
from mcl_jax.gpu_check.cards import CARDS
from mcl_jax.gpu_check.compiling import Compiled
from mcl_jax.gpu_check.counting import Counts
from mcl_jax.gpu_check.estimate import Estimate, Task, lines

COUNTS = Counts(410, 1.5e11, 5e10, 0.0, 0.0, 0, 0, 0, {"all-reduce f32": (3, 77e6)})
COMPILED = Compiled(COUNTS, int(15e9), int(2e9), 0, 2.5e13, 1e11)


def estimates(card, memory):
    task = Task("training step, bfloat16", "bfloat16", False)
    return [
        Estimate(task, COMPILED, "", 0.025, 0.045, memory, "no"),
        Estimate(task, None, "XLA's GPU compiler aborted: Check failed"),
    ]


def test_a_table_names_what_bounds_a_step_and_what_aborts():
    text = "\n".join(lines(CARDS["h100"], 8, estimates("h100", 90.0)))
    assert "H100 SXM, 8 devices" in text
    assert "45.0 ms  memory" in text
    assert "3 × all-reduce f32, 77.0 MB together" in text
    assert "Check failed" in text
    assert "bfloat16: its products" not in text
    assert "has no bfloat16" in "\n".join(lines(CARDS["v100"], 1, estimates("v100", 1.0)))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--json"], "--json: needs --gpu"),
        (["--gpu", "rtx5090"], "no card 'rtx5090'"),
        (["--gpu", "h100", "--devices", "0"], "--devices: is 0"),
        (["--gpu", "h100"], "mcl_jax[gpu-check]"),
    ],
)
def test_mistakes_are_one_line(flags, message, monkeypatch, capsys):
    monkeypatch.setattr(describe, "is_installed", lambda: False)
    assert program.run(["describe", "--config", "casiab_mcl", *flags]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", TOY_MODELS)
def test_models_over_time_are_described_before_they_train(people, name):
    config = toy_config_of(people, name)
    lines = describe.describe(config).splitlines()
    told = dict(line.split("  ", 1) for line in lines if "  " in line)
    assert f"--config.model.name={name}" in lines
    assert int(told["parameters"].replace(",", "")) > 0
    assert float(told["FLOPs a frame"].split()[0]) > 0
    for precision in ("float32", "bfloat16", "float32, train.remat", "bfloat16, train.remat"):
        assert "GiB of activations" in told[f"memory in {precision}"]


def test_json_has_the_card_and_every_program(monkeypatch, capsys):
    monkeypatch.setattr(describe, "is_installed", lambda: True)
    monkeypatch.setattr(
        describe,
        "estimate",
        lambda *arguments: Estimate(arguments[-1], COMPILED, "", 0.025, 0.045, 17.0, "yes"),
    )
    assert program.run(["describe", "--config", "casiab_mcl", "--gpu", "h100", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["card"]["name"] == "H100 SXM"
    assert [p["task"]["name"] for p in found["programs"]] == [
        "training step, bfloat16",
        "training step, bfloat16, train.remat",
        "training step, float32",
        "embedding, float16",
    ]
    assert found["programs"][0]["seconds"] == 0.045
