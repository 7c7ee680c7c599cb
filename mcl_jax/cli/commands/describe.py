"""`mcl-jax describe`: parameters, FLOPs and memory of a run, also for a GPU you do not have."""

import argparse

from mcl_jax.cli.overrides import help_of_keys, parse_config
from mcl_jax.config import validate
from mcl_jax.describe import describe, describe_on
from mcl_jax.errors import ConfigError

HELP = "print parameters, FLOPs and memory of a run, and whether it fits a GPU of your choice"

EXAMPLES = """\
  mcl-jax describe --config casiab_mcl
  mcl-jax describe --config grew_mcl --gpu h100 --devices 8
  mcl-jax describe --config gait3d_deepgaitv2 --config.model.num_classes=3000 --gpu rtx4090 --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags; config keys are accepted too."""
    parser.add_argument("--config", metavar="RECIPE", required=True, help="name or file of a recipe")
    parser.set_defaults(config_keys=[])
    parser.epilog = f"{parser.epilog}\n{help_of_keys()}"
    parser.add_argument(
        "--gpu",
        metavar="CARD",
        help="compile for this card without having it: v100, a100, rtx3090, rtx4090, h100, h200, b200 or "
        "rtxpro6000; takes minutes, and needs the extra gpu-check",
    )
    parser.add_argument("--devices", type=int, default=1, help="number of these cards (1)")
    parser.add_argument("--json", action="store_true", help="print the figures of --gpu as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Prints the description.

    Raises:
        UserError: if the config is invalid, or the compiler for GPUs is not installed.
    """
    config = parse_config(arguments.config, arguments.config_keys)
    validate(config)
    if arguments.gpu is None:
        if arguments.json:
            raise ConfigError("--json: needs --gpu")
        print(describe(config))
        return
    print(describe_on(config, arguments.gpu, arguments.devices, as_json=arguments.json))
