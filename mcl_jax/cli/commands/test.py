"""`mcl-jax test`: `mcl-jax train --phase test` by a name of its own."""

import argparse

from mcl_jax.cli.commands import train

HELP = "test a trained model, a run or a checkpoint, by the protocol of its dataset"

EXAMPLES = """\
  mcl-jax test --config casiab_mcl --config.data.root=CASIA-B-pkl --workdir runs/casiab_mcl
  mcl-jax test --config gait3d_deepgaitv2 --config.init_from=OpenGait.pt --config.data.root=Gait3D-pkl
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of a run."""
    train.add_arguments(parser)
    parser.set_defaults(phase="test")


run = train.run
