"""`mcl-jax test`: tests a run or a checkpoint, on one dataset or on several."""

import argparse
from pathlib import Path

from mcl_jax.cli.commands import train
from mcl_jax.cli.cross_test import cross_test, places_of
from mcl_jax.cli.launch import ready
from mcl_jax.errors import ConfigError

HELP = "test a run or a checkpoint by the protocol of its dataset, or on several datasets"

EXAMPLES = """\
  mcl-jax test --workdir runs/casiab_mcl
  mcl-jax test --config casiab_mcl --config.data.root=CASIA-B-pkl --workdir runs/casiab_mcl
  mcl-jax test --config gait3d_deepgaitv2 --config.init_from=OpenGait.pt --config.data.root=Gait3D-pkl
  mcl-jax test --model runs/gait3d_mcl --on casiab=CASIA-B-pkl --on gait3d=Gait3D-pkl,Gait3D.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of a run, and those of a test on several datasets."""
    train.add_arguments(parser)
    parser.add_argument("--model", metavar="PATH", help="with --on: the run or checkpoint that is tested")
    parser.add_argument(
        "--on",
        action="append",
        default=[],
        metavar="DATASET=ROOT",
        help="with --model: a dataset to test on, or DATASET=ROOT,PARTITION.json; may be repeated",
    )
    parser.set_defaults(phase="test")


def run(arguments: argparse.Namespace) -> None:
    """Tests as the flags say.

    Raises:
        UserError: for any mistake that the user can fix.
    """
    if not arguments.on and arguments.model is None:
        train.run(arguments)
        return
    if not arguments.on or arguments.model is None:
        raise ConfigError("--model and --on go together; give both")
    if arguments.config is not None:
        raise ConfigError("--config: --model already says which model it is; leave --config out")
    places = places_of(arguments.on)
    workdir = None if arguments.workdir is None else Path(arguments.workdir)
    with ready(train.options_of(arguments)):
        cross_test(arguments.model, places, workdir, arguments.config_keys)
