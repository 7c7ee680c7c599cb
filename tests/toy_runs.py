"""The smallest run that trains and tests: as overrides, as a config, and as a command line."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from forked import run_main
from ml_collections import ConfigDict

ROOT = Path(__file__).resolve().parents[1]
TOY = ("--config.model.channels=(2,2,3,3)", "--config.model.embed_dim=3", "--config.train.batch=(2,2)")
SHORT = ("--config.data.sampling.frames=2", "--config.data.workers=0", "--config.train.log_every=1")


def partition_of(people: Path) -> str:
    """The partition file beside a tree of walkers."""
    return str(people.parent / f"{people.name}_partition.json")


def toy_overrides(people: Path, **more: Any) -> dict[str, Any]:
    """A tiny GaitBase on walkers, three steps long."""
    return {
        "data.root": str(people),
        "data.partition": partition_of(people),
        "data.workers": 0,
        "data.sampling.frames": 2,
        "model.channels": (2, 2, 3, 3),
        "model.embed_dim": 3,
        "train.batch": (2, 2),
        "train.steps": 3,
        "train.log_every": 1,
        "schedule.milestones": (2,),
    } | more


def toy_config(people: Path) -> ConfigDict:
    from mcl_jax.config import load_config

    config = load_config("walkers_mcl")
    config.update_from_flattened_dict(toy_overrides(people))
    return config


# Of every model that works over time, and of FoundationGait: a tiny one, and how its frames are drawn.
DRAWN = {"mode": "unfixed_unordered", "min_frames": 2, "max_frames": 5}
ORDERED = {"mode": "fixed_ordered", "frames": 3, "skip": 1, "min_rate": 1, "max_rate": 1}
TOY_MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "gaitpart": ({"channels": (2, 3, 4), "strips": (1, 4, 8), "embed_dim": 3}, DRAWN),
    "gaitgl": ({"channels": (2, 3, 4)}, DRAWN),
    "swingait": ({"layers": (1, 1, 2, 1), "channels": (2, 3), "widths": (16, 32), "parts": 3}, DRAWN),
    # Each row of a batch is one clip, as its cuts need.
    "foundationgait": (
        {
            "layers": (1, 1, 1, 1),
            "channels": (2, 2, 3, 3),
            "bins": (4, 1),
            "embed_dim": 3,
            "crops": (2, 1),
        },
        ORDERED,
    ),
}


def toy_config_of(people: Path, name: str, **blocks: dict[str, Any]) -> ConfigDict:
    """A tiny model of `TOY_MODELS` on walkers; `blocks` replace those of the config."""
    from mcl_jax.config import make_config
    from mcl_jax.models import MODELS

    arguments, sampling = TOY_MODELS[name]
    losses: dict[str, Any] = {"triplet": {"margin": 0.2}}
    if MODELS[name].CLASSIFIER is not None:
        losses["cross_entropy"] = {"scale": 1.0}
    data = {"dataset": "walkers", "root": str(people), "partition": partition_of(people), "workers": 0}
    standard: dict[str, Any] = {
        "data": {**data, "sampling": sampling},
        "model": {"name": name, **arguments},
        "loss": losses,
        "optimizer": {"name": "sgd", "lr": 1e-4},
        "train": {"steps": 2, "batch": (2, 2), "precision": "float32", "log_every": 1},
    }
    return make_config(**(standard | blocks))


def flags(people: Path) -> list[str]:
    return [f"--config.data.root={people}", f"--config.data.partition={partition_of(people)}", *TOY, *SHORT]


def command(
    *arguments: str, config: str = "walkers_mcl", devices: int = 1
) -> tuple[list[str], dict[str, str]]:
    xla = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"  # the last one counts
    environment = os.environ | {"XLA_FLAGS": xla, "JAX_PLATFORMS": "cpu"}
    return [sys.executable, "-m", "mcl_jax.main", "--config", f"configs/{config}.py", *arguments], environment


def run(*arguments: str, **options) -> subprocess.CompletedProcess:
    line, environment = command(*arguments, **options)
    return subprocess.run(line, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)


def run_quickly(*arguments: str, **options) -> subprocess.CompletedProcess:
    """Runs the same program without the seconds that its imports take."""
    (_, _, _, *flags), environment = command(*arguments, **options)
    return run_main(flags, environment, ROOT)
