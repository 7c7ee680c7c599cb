import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from toys import TOYS

from mcl_jax.build import trained_block
from mcl_jax.config import load_config
from mcl_jax.convert.runs import export_weights, import_run
from mcl_jax.errors import CheckpointError
from mcl_jax.models.registry import create_model
from mcl_jax.training.optimizers import multi_step, sgd
from mcl_jax.training.state import create_state
from mcl_jax.weights.load import load_weights
from mcl_jax.workdir.checkpoints import Checkpoints

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "convert_torch_ckpt.py"
GAITSET = {"name": "gaitset", "channels": (2, 3, 4), "embed_dim": 5}
ADAM = {"name": "adam", "lr": 0.1, "weight_decay": 5e-4}
CONFIG = """
from mcl_jax.config import make_config

def get_config():
    return make_config(
        model={"name": "gaitbase", "channels": (2, 4, 4, 6), "embed_dim": 5},
        loss={"mcl": {}, "cross_entropy": {}},
        schedule={"name": "multi_step", "milestones": (4, 8)},
    )
"""


@pytest.fixture(scope="module")
def trainer():
    return TOYS["gaitbase"].trained(steps=3)


@pytest.fixture
def files(tmp_path, trainer):
    (tmp_path / "config.py").write_text(CONFIG)
    torch.save(trainer.checkpoint(), tmp_path / "toy.pt")
    return tmp_path


@pytest.fixture
def config(files):
    return load_config(str(files / "config.py"))


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


def test_round_trip_is_bit_equal(config, files, trainer):
    for with_optimizer in (False, True):
        folder, back = files / f"run{with_optimizer}", files / f"back{with_optimizer}.pt"
        import_run(config, files / "toy.pt", folder, with_optimizer=with_optimizer)
        export_weights(load_weights(folder), back)
        content = torch.load(back, weights_only=True)
        assert content["iteration"] == (3 if with_optimizer else 0)
        original = trainer.model.state_dict()
        assert list(content["model"]) == list(original)
        assert all(torch.equal(content["model"][name], tensor) for name, tensor in original.items())
        trainer.model.load_state_dict(content["model"], strict=True)


def test_with_optimizer_training_continues_at_the_same_step(config, files, trainer, capsys):
    import_run(config, files / "toy.pt", files / "run", with_optimizer=True)
    assert capsys.readouterr().err == ""
    model = create_model("gaitbase", TOYS["gaitbase"].sizes, dtype="float32")
    template = create_state(*model.initial_arrays(0), sgd(multi_step(0.1, milestones=(4, 8))))
    with Checkpoints(files / "run") as checkpoints:
        state = checkpoints.restore(template)
    assert state.step == 3
    momentum = state.opt_state[1].trace["head"]["fcs"]["kernel"]
    theirs = trainer.optimizer.state[trainer.model.FCs.fc_bin]["momentum_buffer"]
    np.testing.assert_array_equal(momentum, theirs)
    assert jax.tree.leaves(state.opt_state[2]) == [3]  # the position of the schedule


def test_other_settings_of_the_optimizer_are_noted(config, files, capsys):
    config.optimizer.lr = 0.5
    import_run(config, files / "toy.pt", files / "run", with_optimizer=True)
    assert capsys.readouterr().err == (
        "note: lr is 0.5 in the config and 0.1 in the file; training continues with the config's\n"
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            {"model.channels": (64, 128, 256, 512)},
            r"\(64,128,256,512\) in the config and \(2,4,4,6\) in the file",
        ),
        ({"model.num_classes": 9}, "model.num_classes is 9 in the config and 3 in the file"),
        ({"model": GAITSET}, "model.name is gaitset in the config and gaitbase in the file"),
        ({"optimizer": ADAM}, "was trained with SGD, but the config has Adam"),
    ],
)
def test_refuses_another_config_and_writes_nothing(config, files, change, why):
    with config.unlocked():
        config.update_from_flattened_dict({key: v for key, v in change.items() if "." in key})
        for block in change.keys() & config.keys():
            config[block] = change[block]
    with pytest.raises(CheckpointError, match=why):
        import_run(config, files / "toy.pt", files / "run", with_optimizer=True)
    assert not (files / "run").exists()


def test_a_form_that_is_not_the_files_is_named(caplog):
    config, stored = load_config("casiab_gaitgl"), TOYS["gaitgl_large"].block
    told = "F.pt: model.form is small in the config and large in the file"
    with pytest.raises(CheckpointError, match=told):
        trained_block(config, stored, "F.pt", strict=True)
    assert trained_block(config, stored, "F.pt", strict=False)["form"] == "large"
    assert told in caplog.text


def test_refuses_to_add_to_a_run(config, files):
    import_run(config, files / "toy.pt", files / "run", with_optimizer=False)
    with pytest.raises(CheckpointError, match="already has checkpoints"):
        import_run(config, files / "toy.pt", files / "run", with_optimizer=False)
