"""`mcl-jax demo`: synthetic people, a small GaitBase trained on them, and the table of whom it recognises."""

import argparse
import os
from pathlib import Path

from mcl_jax.config_line import parse_config
from mcl_jax.launch import RunOptions, launch
from mcl_jax.walkers import write_walkers

HELP = "make synthetic people, train a small GaitBase with MCL on them, and test it, in minutes"

EXAMPLES = """\
  mcl-jax demo
  mcl-jax demo --out elsewhere --config.train.steps=200
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for people and run (demo)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (all cores)")
    parser.set_defaults(config_keys=[])


def run(arguments: argparse.Namespace) -> None:
    """Does it all; given again, it goes on.

    Raises:
        UserError: for anything the user can mend.
    """
    people: Path = arguments.out / "walkers"
    write_walkers(
        people,
        subjects=150,
        test_subjects=50,
        views=("036", "072", "108", "144"),
        frames=30,
        workers=arguments.workers,
        progress=True,
    )
    where = [f"--config.data.root={people}", f"--config.data.partition={people}_partition.json"]
    config = parse_config("walkers_mcl", [*where, *arguments.config_keys])
    launch(config, "walkers_mcl", RunOptions(workdir=str(arguments.out / "run")))
