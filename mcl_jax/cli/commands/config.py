"""`mcl-jax config`: lists the recipes, prints every key of one, or compares two."""

import argparse

from mcl_jax.cli.overrides import load_any_config, parse_config, quoted_keys
from mcl_jax.config import recipes, validate
from mcl_jax.errors import ConfigError

HELP = "list the recipes, print every key of a recipe, run or OpenGait YAML, or compare two of them"

EXAMPLES = """\
  mcl-jax config
  mcl-jax config casiab_mcl --config.train.steps=1000
  mcl-jax config runs/casiab_mcl
  mcl-jax config casiab_mcl casiab_triplet
  mcl-jax config OpenGait/configs/deepgaitv2/DeepGaitV2_grew.yaml
"""

_ABSENT = "absent"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument(
        "recipe", nargs="?", help="name, file, or folder of a run; without it, all recipes are listed"
    )
    parser.add_argument("other", nargs="?", help="a second one, to print only the keys that differ")
    parser.set_defaults(config_keys=[])


def run(arguments: argparse.Namespace) -> None:
    """Prints the recipes, the keys or the differences.

    Raises:
        ConfigError: if there is no such recipe, or its config is invalid.
    """
    if arguments.recipe is None:
        print("\n".join(recipes()))
        return
    if arguments.other is not None:
        if arguments.config_keys:
            raise ConfigError(
                f"{arguments.config_keys[0]}: cannot be set when two recipes are compared; leave it out"
            )
        print(_differences(arguments.recipe, arguments.other))
        return
    config = parse_config(arguments.recipe, arguments.config_keys)
    validate(config)
    for note in load_any_config(arguments.recipe)[1]:
        print(f"# {note}")
    for name, value in quoted_keys(config):
        print(f"{name:<28} {value}")


def _differences(first: str, second: str) -> str:
    """Returns a line for each key that differs, with both values.

    Raises:
        ConfigError: if there is no such recipe.
    """
    here, there = (dict(quoted_keys(load_any_config(name)[0])) for name in (first, second))
    rows = [
        (key, str(here.get(key, _ABSENT)), str(there.get(key, _ABSENT)))
        for key in sorted(here.keys() | there.keys())
        if here.get(key, _ABSENT) != there.get(key, _ABSENT)
    ]
    if not rows:
        return "no key differs"
    rows.insert(0, ("", first, second))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(f"{key:<{widths[0]}}  {a:<{widths[1]}}  {b}" for key, a, b in rows)
