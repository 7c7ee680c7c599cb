"""Reports during training, such as the warning about a collapsed model, which the loss does not show."""

import jax.numpy as jnp
import numpy as np

from mcl_jax.training.reporting import TrainingReporter


def test_a_collapse_is_reported_once(tmp_path, caplog):
    def metrics(distance: float):
        plain = {"loss": 0.2, "triplet/mean_dist": distance, "sequences": 4, "frames": 8}
        return {key: np.float32(value) for key, value in plain.items()} | {"left_out": 0, "leave": False}

    settings = {"start": 0, "steps": 9, "log_every": 1, "sequences_per_step": 4}
    with TrainingReporter(tmp_path, **settings, schedule=lambda step: jnp.float32(0.1)) as progress:
        for step, distance in enumerate((0.3, 1e-11, 1e-11, 0.3, 0.0), start=1):
            progress.update(step, metrics(distance))
    said = [record.getMessage() for record in caplog.records if "collapsed" in record.getMessage()]
    assert [line.split(":")[0] for line in said] == ["step 2", "step 5"]


def test_speed_leaves_compilation_out(tmp_path, capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("mcl_jax.training.reporting.time.monotonic", lambda: now[0])
    settings = {"start": 0, "steps": 2, "log_every": 2, "sequences_per_step": 4}
    metrics = {key: np.float32(4) for key in ("loss", "sequences", "frames")} | {
        "left_out": 0,
        "leave": False,
    }
    with TrainingReporter(tmp_path, **settings, schedule=lambda step: jnp.float32(0.1)) as progress:
        now[0] += 100
        progress.leave_out(100)
        for step in (1, 2):
            now[0] += 2
            progress.update(step, metrics)
    assert "  2 seq/s  2 frames/s" in capsys.readouterr().out
