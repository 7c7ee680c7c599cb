"""`mcl-jax config`: the recipes there are, or every key of one; or of an OpenGait YAML, translated."""

import argparse

from mcl_jax.cli.overrides import load_any_config, parse_config, quoted_keys
from mcl_jax.config import recipes, validate

HELP = "list the recipes, or every key of a recipe or of an OpenGait YAML"

EXAMPLES = """\
  mcl-jax config
  mcl-jax config casiab_mcl --config.train.steps=1000
  mcl-jax config OpenGait/configs/deepgaitv2/DeepGaitV2_grew.yaml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument("recipe", nargs="?", help="name or file; without it, the names are printed")
    parser.set_defaults(config_keys=[])


def run(arguments: argparse.Namespace) -> None:
    """Prints them.

    Raises:
        ConfigError: if there is no such recipe, or it cannot work.
    """
    if arguments.recipe is None:
        print("\n".join(recipes()))
        return
    config = parse_config(arguments.recipe, arguments.config_keys)
    validate(config)
    for note in load_any_config(arguments.recipe)[1]:
        print(f"# {note}")
    for name, value in quoted_keys(config):
        print(f"{name:<28} {value}")
