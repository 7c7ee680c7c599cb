"""Configs from the command line: `--config RECIPE`, and keys such as `--config.a.b=v`."""

import ast
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from mcl_jax.config import add_parts, load_config, recipes
from mcl_jax.convert.opengait_yaml import SUFFIXES, translate
from mcl_jax.errors import ConfigError
from mcl_jax.utils.pytrees import flat_keys
from mcl_jax.workdir.saved_config import config_of_run


def parse_config(recipe: str, keys: Sequence[str]) -> ConfigDict:
    """Returns the config of a recipe with keys changed.

    Args:
        recipe: see `load_any_config`.
        keys: see `with_keys`.

    Raises:
        ConfigError: naming the recipe or key that cannot work.
    """
    config, notes = load_any_config(recipe)
    for note in notes:
        logging.info("%s: %s", recipe, note)
    return with_keys(config, keys)


def with_keys(config: ConfigDict, keys: Sequence[str]) -> ConfigDict:
    """Returns a config with keys changed, and with the blocks that these keys add; see `add_parts`.

    Args:
        config: may be changed.
        keys: any number of `--config.a.b=v`; if a key comes twice, the last value counts.

    Raises:
        ConfigError: naming the key that cannot work.
    """
    keys = _last_of_each(keys)
    add_parts(config, dict(map(_key_and_value, keys)))
    values, arguments, known = flags.FlagValues(), ["mcl-jax", *keys], set(flat_keys(config))
    try:
        config_flags.DEFINE_config_dict(
            "config", config, "Recipe of the run.", lock_config=True, flag_values=values, sys_argv=arguments
        )
        values(arguments)
    except IndexError:
        raise ConfigError(
            "command line: KEY[0] cannot be set alone; set the whole value: --config.train.batch=(8,16)"
        ) from None
    # A parser of values raises any error of the type that it makes.
    except (
        flags.Error,
        AttributeError,
        KeyError,
        MemoryError,
        OverflowError,
        RecursionError,
        SyntaxError,
        TypeError,
        ValueError,
    ) as error:
        raise ConfigError(f"command line: {_reason(error)}") from None
    if missing := sorted(known - flat_keys(values.config).keys()):
        raise ConfigError(f"command line: {missing[0]} is missing from its block; set keys one by one")
    return values.config


def _last_of_each(keys: Sequence[str]) -> list[str]:
    """Returns each key once, with its last value; absl would join repeated values in a tuple."""
    return list({key.partition("=")[0]: key for key in keys}.values())


def _key_and_value(flag: str) -> tuple[str, Any]:
    """Returns the dotted key of `--config.a.b=v` and its value: text if it is not a Python literal."""
    key, _, text = flag.removeprefix("--config.").partition("=")
    try:
        return key, ast.literal_eval(text)
    except (MemoryError, RecursionError, SyntaxError, ValueError):
        return key, text


def load_any_config(recipe: str) -> tuple[ConfigDict, tuple[str, ...]]:
    """Returns the config of a recipe, of a run or of an OpenGait YAML, with notes about its translation.

    Args:
        recipe: name or file of a recipe, or a YAML file, or the folder of a run.

    Raises:
        ConfigError: if it does not exist, or cannot be translated.
    """
    if is_run(recipe):
        return config_of_run(Path(recipe)), ()
    if Path(recipe).suffix in SUFFIXES:
        translation = translate(recipe)
        return translation.config, translation.notes
    return load_config(recipe), ()


def is_run(recipe: str) -> bool:
    """Returns whether a recipe is a folder, such as a run's, and not a recipe of the package."""
    return Path(recipe).is_dir() and recipe not in recipes()


def config_name(recipe: str) -> str:
    """Returns the name of a recipe: that of its file."""
    return Path(recipe).stem


def quoted_keys(config: ConfigDict) -> list[tuple[str, object]]:
    """Returns (dotted key, value) of all keys of a config, texts in quotes."""
    return [
        (key, repr(value) if isinstance(value, str) else value) for key, value in flat_keys(config).items()
    ]


def help_of_keys() -> str:
    """Returns the keys of a config with the values of one recipe, a line each."""
    lines = [f"  --config.{name}={value}" for name, value in quoted_keys(load_config("casiab_mcl"))]
    return "\n".join(["keys of a config, with the values of casiab_mcl:", *lines])


def _reason(error: Exception) -> str:
    text = str(error.args[0] if error.args else error)
    # For an unknown key, ml_collections gives the repr of its name, or the repr of that repr.
    with contextlib.suppress(ValueError, SyntaxError):
        text = str(ast.literal_eval(text))
    name, *hints = text.splitlines() or [""]
    if name.strip("'").isidentifier():
        name = "there is no config key " + repr(name.strip("'")) + "." * bool(hints)
    return " ".join([name, *hints])
