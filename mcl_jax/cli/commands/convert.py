"""`mcl-jax convert`: turns OpenGait's PyTorch checkpoints into runs, and runs into such checkpoints."""

import argparse
from pathlib import Path

from absl import logging

from mcl_jax.cli.overrides import parse_config
from mcl_jax.config import validate
from mcl_jax.convert.runs import export_weights, import_run
from mcl_jax.errors import ConfigError
from mcl_jax.hub.fetch import local_copy
from mcl_jax.weights.load import load_weights

HELP = "turn a PyTorch checkpoint of OpenGait into a run, or a run into a PyTorch checkpoint"

EXAMPLES = """\
  mcl-jax convert --config gait3d_mcl --ckpt OpenGait.pt --out runs/gait3d_mcl --with-optimizer
  mcl-jax convert --config gait3d_mcl --ckpt gait3d_mcl --out runs/gait3d_mcl     # the published one
  mcl-jax convert --to-torch --ckpt runs/gait3d_mcl --out ours.pt
  mcl-jax convert --to-torch --ckpt OpenGait.pt --out OpenGait.safetensors
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument("--config", metavar="RECIPE", help="config of the model, by name or file")
    parser.add_argument(
        "--ckpt",
        help="file or published name of the model; with --to-torch, also the folder of a run",
    )
    parser.add_argument("--out", help="new folder to write; with --to-torch, a file")
    parser.add_argument(
        "--with-optimizer",
        action="store_true",
        help="also import momentum, schedule and iteration, to continue training from there",
    )
    parser.add_argument(
        "--to-torch",
        action="store_true",
        help="write a run, or any model, under OpenGait's names, as .pt or .safetensors",
    )
    parser.set_defaults(config_keys=[])


def run(arguments: argparse.Namespace) -> None:
    """Converts as the flags say.

    Raises:
        UserError: for any mistake that the user can fix.
    """
    logging.set_verbosity(logging.WARNING)
    if not arguments.ckpt or not arguments.out:
        raise ConfigError(
            "--ckpt and --out are missing: give the checkpoint to convert, and where to write the result"
        )
    out = Path(arguments.out)
    if arguments.to_torch:
        done = export_weights(load_weights(arguments.ckpt), out)
    elif arguments.config is None:
        raise ConfigError("--config is missing: the config of the model that the file holds")
    else:
        config = parse_config(arguments.config, arguments.config_keys)
        validate(config)
        done = import_run(config, local_copy(arguments.ckpt), out, with_optimizer=arguments.with_optimizer)
    for key, value in done.items():
        print(f"{key:<10} {value}")
