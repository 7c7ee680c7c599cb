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
