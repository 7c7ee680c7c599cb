"""`mcl-jax checkpoints`: lists the checkpoints of a run, and whether they are sound."""

import argparse
from pathlib import Path

from mcl_jax.runtime.settings import show_own_log
from mcl_jax.workdir.checkpoint_table import table

HELP = "list the checkpoints of a run: step, date, size, digest, and whether they are damaged"

EXAMPLES = """\
  mcl-jax checkpoints runs/casiab_mcl
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument("workdir", type=Path, help="folder of the run")


def run(arguments: argparse.Namespace) -> None:
    """Prints the table.

    Raises:
        CheckpointError: if there is no run.
    """
    show_own_log()
    print(table(arguments.workdir))
