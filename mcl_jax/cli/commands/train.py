"""`mcl-jax train`: a run by its config, as `python -m mcl_jax.main` does it."""

import argparse

from mcl_jax.cli.launch import RunOptions, flag_fields, launch
from mcl_jax.cli.overrides import config_name, help_of_keys, parse_config
from mcl_jax.errors import ConfigError

HELP = "train a model by its config, then test it; run it again to resume"

EXAMPLES = """\
  mcl-jax train --config casiab_mcl --config.data.root=CASIA-B-pkl --workdir runs/casiab_mcl
  mcl-jax train --config grew_mcl --config.data.root=GREW-pkl --config.train.precision=float32
  mcl-jax train --config my_recipe.py --describe
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of a run; the keys of its config come beside them."""
    parser.add_argument(
        "--config",
        metavar="RECIPE",
        help="name of a recipe (`mcl-jax config` lists them), or a file of your own; required",
    )
    parser.set_defaults(config_keys=[])
    parser.epilog = f"{parser.epilog}\n{help_of_keys()}"
    for name, (kind, field) in flag_fields().items():
        # As absl has them: with _ in the name; with - they read like the flags of other commands.
        names = dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"])
        kinds = {"action": "store_true"} if kind is bool else {"type": kind}
        if "choices" in field.metadata:
            kinds["choices"] = field.metadata["choices"]
        parser.add_argument(*names, dest=name, default=field.default, help=field.metadata["help"], **kinds)


def run(arguments: argparse.Namespace) -> None:
    """Trains or tests as the flags say.

    Raises:
        UserError: for anything the user can mend.
    """
    if arguments.config is None:
        raise ConfigError("--config is missing: --config walkers_mcl, for instance")
    options = RunOptions(**{name: getattr(arguments, name) for name in flag_fields()})
    config = parse_config(arguments.config, arguments.config_keys)
    launch(config, config_name(arguments.config), options)
