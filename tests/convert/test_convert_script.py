import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from conftest import TOYS

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "convert_torch_ckpt.py"
CONFIG = """
from mcl_jax.config import base_config

def get_config():
    config = base_config()
    config.model.name, config.model.channels, config.model.embed_dim = "gaitbase", (2, 4, 4, 6), 5
    config.optimizer.milestones = (4, 8)
    return config
"""


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("convert_torch_ckpt", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def trainer():
    return TOYS["gaitbase"].trained(steps=3)


@pytest.fixture
def files(tmp_path, trainer):
    (tmp_path / "config.py").write_text(CONFIG)
    torch.save(trainer.checkpoint(), tmp_path / "toy.pt")
    return tmp_path


@pytest.fixture
def config(script, files):
    spec = importlib.util.spec_from_file_location("toy_config", files / "config.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def run(*arguments):
    """Runs the script as if PyTorch were not installed."""
    program = (
        "import runpy, sys; sys.modules['torch'] = None; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", program, SCRIPT, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
    )


def test_command_line_imports_and_says_what_it_did(files):
    done = run("--config", files / "config.py", "--ckpt", files / "toy.pt", "--out", files / "run")
    assert (done.returncode, done.stderr) == (0, "")
    printed = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert printed["model"].startswith("gaitbase")
    assert printed["classes"] == "3"
    assert printed["parameters"] == f"{sum(p.numel() for p in TOYS['gaitbase'].torch_model().parameters()):,}"
    assert printed["iteration"].startswith("3")
    assert len(printed["sha256"]) == 64
    assert (files / "run" / "checkpoints" / "0").is_dir()


def test_command_line_refuses_in_one_line_and_writes_nothing(files):
    whole = (files / "toy.pt").read_bytes()
    (files / "cut.pt").write_bytes(whole[: len(whole) // 2])
    done = run("--config", files / "config.py", "--ckpt", files / "cut.pt", "--out", files / "run")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {files}/cut.pt: is damaged")
    assert done.stderr.count("\n") == 1
    assert not (files / "run").exists()


def test_round_trip_is_bit_equal(script, config, files, trainer):
    for with_optimizer in (False, True):
        folder, back = files / f"run{with_optimizer}", files / f"back{with_optimizer}.pt"
        script.import_checkpoint(config, files / "toy.pt", folder, with_optimizer=with_optimizer)
        script.export_checkpoint(folder, back)
        content = torch.load(back, weights_only=True)
        assert content["iteration"] == (3 if with_optimizer else 0)
        original = trainer.model.state_dict()
        assert list(content["model"]) == list(original)
        assert all(torch.equal(content["model"][name], tensor) for name, tensor in original.items())
        trainer.model.load_state_dict(content["model"], strict=True)


def test_with_optimizer_the_state_goes_on_at_the_same_step(script, config, files, trainer, capsys):
    from mcl_jax.checkpoint import Checkpoints
    from mcl_jax.config import model_arguments
    from mcl_jax.optim import make_optimizer, multi_step
    from mcl_jax.train_state import create_model, create_state

    script.import_checkpoint(config, files / "toy.pt", files / "run", with_optimizer=True)
    assert capsys.readouterr().err == ""
    model = create_model("gaitbase", model_arguments(config.model, 3), dtype="float32")
    optimizer = make_optimizer("sgd", multi_step(0.1, (4, 8), 0.1), momentum=0.9, weight_decay=5e-4)
    template = create_state(*model.initial_arrays(0), optimizer)
    with Checkpoints(files / "run") as checkpoints:
        state = checkpoints.restore(template)
    assert state.step == 3
    momentum = state.opt_state[1].trace["head"]["fcs"]["kernel"]
    theirs = trainer.optimizer.state[trainer.model.FCs.fc_bin]["momentum_buffer"]
    np.testing.assert_array_equal(momentum, theirs)
    assert jax.tree.leaves(state.opt_state[2]) == [3]  # the position of the schedule


def test_other_settings_of_the_optimizer_are_noted(script, config, files, capsys):
    config.optimizer.lr = 0.5
    script.import_checkpoint(config, files / "toy.pt", files / "run", with_optimizer=True)
    assert capsys.readouterr().err == (
        "note: lr is 0.5 in the config and 0.1 in the file; training goes on with the config's\n"
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            {"model.channels": (64, 128, 256, 512)},
            r"\(64,128,256,512\) in the config and \(2,4,4,6\) in the file",
        ),
        ({"model.num_classes": 9}, "model.num_classes is 9 in the config and 3 in the file"),
        ({"model.name": "deepgaitv2"}, "model.name is deepgaitv2 in the config and gaitbase in the file"),
        ({"optimizer.name": "adam"}, "was trained with SGD, the config says Adam"),
    ],
)
def test_refuses_another_config_and_writes_nothing(script, config, files, change, why):
    config.update_from_flattened_dict(change)
    with pytest.raises(script.CheckpointError, match=why):
        script.import_checkpoint(config, files / "toy.pt", files / "run", with_optimizer=True)
    assert not (files / "run").exists()


def test_refuses_to_add_to_a_run(script, config, files):
    script.import_checkpoint(config, files / "toy.pt", files / "run", with_optimizer=False)
    with pytest.raises(script.CheckpointError, match="already holds checkpoints"):
        script.import_checkpoint(config, files / "toy.pt", files / "run", with_optimizer=False)
