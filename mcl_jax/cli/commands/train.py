"""`mcl-jax train`: trains a model by its config, then tests it; the same as `python -m mcl_jax.main`."""

import argparse
from pathlib import Path

from ml_collections import ConfigDict

from mcl_jax.cli.launch import RunOptions, flag_fields, launch
from mcl_jax.cli.overrides import config_name, help_of_keys, is_run, parse_config, with_keys
from mcl_jax.errors import ConfigError
from mcl_jax.workdir.saved_config import config_of_run

HELP = "train a model by its config, then test it; run it again to resume"

EXAMPLES = """\
  mcl-jax train --config casiab_mcl --config.data.root=CASIA-B-pkl --workdir runs/casiab_mcl
  mcl-jax train --config grew_mcl --config.data.root=GREW-pkl --config.train.precision=float32
  mcl-jax train --workdir runs/casiab_mcl
  mcl-jax train --config casiab_triplet --config.loss.mcl.weight=1 --config.data.root=CASIA-B-pkl
  mcl-jax train --config my_recipe.py --describe
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of a run; config keys are accepted too."""
    parser.add_argument(
        "--config",
        metavar="RECIPE",
        help="a recipe's name (see `mcl-jax config`), a file of your own, or the folder of a run; "
        "default: the config of the run in --workdir",
    )
    parser.set_defaults(config_keys=[])
    parser.epilog = f"{parser.epilog}\n{help_of_keys()}"
    for name, (kind, field) in flag_fields().items():
        # With _ as absl spells them, and with - like the flags of other commands.
        names = dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"])
        kinds = {"action": "store_true"} if kind is bool else {"type": kind}
        if "choices" in field.metadata:
            kinds["choices"] = field.metadata["choices"]
        parser.add_argument(*names, dest=name, default=field.default, help=field.metadata["help"], **kinds)


def run(arguments: argparse.Namespace) -> None:
    """Trains or tests as the flags say.

    Raises:
        UserError: for any mistake that the user can fix.
    """
    config, name = _config_of(arguments)
    launch(config, name, options_of(arguments))


def options_of(arguments: argparse.Namespace) -> RunOptions:
    """Returns the flags of a run."""
    return RunOptions(**{name: getattr(arguments, name) for name in flag_fields()})


def _config_of(arguments: argparse.Namespace) -> tuple[ConfigDict, str]:
    """Returns the config of the run, and the default name of its folder.

    Raises:
        ConfigError: if it is invalid, or neither a recipe nor a run is given.
    """
    recipe = arguments.config
    if recipe is not None and not is_run(recipe):
        return parse_config(recipe, arguments.config_keys), config_name(recipe)
    run = arguments.workdir if recipe is None else recipe
    if run is None:
        raise ConfigError(
            "--config is missing: --config walkers_mcl, for instance; or --workdir of a run, whose config is "
            "taken"
        )
    config = config_of_run(Path(run))
    if arguments.phase == "test":
        config.init_from = ""  # test the run itself, not the weights that it started from
    return with_keys(config, arguments.config_keys), config_name(run)
