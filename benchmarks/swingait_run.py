"""Trains a small DeepGaitV2 and from it a small SwinGait on synthetic people, and prints their rank-1.

    python benchmarks/swingait_run.py FOLDER     # about 45 minutes of CPU

The people and the batch are those of trained_alike.py. SwinGait has the optimiser and schedule of its
recipes, shortened, with three times their rate.
"""

import argparse
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from trained_alike import draw_people

import mcl_jax
from mcl_jax.config import load_config, make_config

LOSSES = {
    "triplet": {"weight": 1.0, "margin": 0.2},
    "cross_entropy": {"weight": 1.0, "scale": 16.0, "label_smoothing": 0.1},
}
TRAIN = {"batch": (8, 4), "precision": "float32", "log_every": 20, "keep_classifier": True}


def data(people: Path) -> dict[str, Any]:
    """Returns the data block: clips of six frames in order."""
    return {
        "dataset": "walkers",
        "root": str(people),
        "partition": f"{people}_partition.json",
        "augment": (("cut", 1.0),),
        "sampling": {"mode": "fixed_ordered", "frames": 6, "skip": 2, "min_rate": 1, "max_rate": 1},
    }


def deepgaitv2(people: Path, steps: int) -> ConfigDict:
    """Returns the config of the first run."""
    return make_config(
        data=data(people),
        model={"name": "deepgaitv2", "mode": "p3d", "layers": (1, 1, 1, 1), "channels": (8, 16, 32, 64)},
        loss=LOSSES,
        optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
        schedule={"name": "multi_step", "milestones": (steps * 2 // 3, steps * 9 // 10), "gamma": 0.1},
        train=TRAIN | {"steps": steps},
    )


def swingait(people: Path, steps: int, start: Path) -> ConfigDict:
    """Returns the config of the second run, which starts from the first."""
    config = make_config(
        data=data(people),
        model={"name": "swingait", "layers": (1, 1, 2, 1), "channels": (8, 16), "widths": (32, 64)},
        loss=LOSSES,
        optimizer=load_config("gait3d_swingait").optimizer.to_dict() | {"lr": 1e-3},
        schedule={"name": "stepped_cosine", "steps": steps, "every": max(1, steps // 16)},
        train=TRAIN | {"steps": steps, "fit_partly": True},
    )
    config.init_from = str(start)
    return config


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=200, help="of each run")
    args = parser.parse_args()
    people, first, second = (args.folder / name for name in ("walkers", "deepgaitv2", "swingait"))
    draw_people(people)
    mcl_jax.train(deepgaitv2(people, args.steps), first)
    config = swingait(people, args.steps, first)
    for config.train.steps in (1, args.steps):  # the second goes on with the first
        mcl_jax.train(config, second)


if __name__ == "__main__":
    main()
