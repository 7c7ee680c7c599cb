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
        recipe: as of `load_any_config`.
        keys: as of `with_keys`.

    Raises:
        ConfigError: naming the recipe or key that cannot work.
    """
    config, notes = load_any_config(recipe)
    for note in notes:
        logging.info("%s: %s", recipe, note)
    return with_keys(config, keys)


def with_keys(config: ConfigDict, keys: Sequence[str]) -> ConfigDict:
    """Returns a config with keys changed, and with the parts that they add; see `add_parts`.

    Args:
        config: may be changed.
        keys: any number of `--config.a.b=v`; of one that comes twice the last holds.

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
            "command line: a value has no place such as KEY[0]; set all of it: --config.train.batch=(8,16)"
        ) from None
    # The parsers of values raise what the types raise that they make.
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
        raise ConfigError(f"command line: {missing[0]} is gone with its block; set keys one by one")
    return values.config


def _last_of_each(keys: Sequence[str]) -> list[str]:
    """Returns the keys, each with its last value; absl would make one tuple of the values of two."""
    return list({key.partition("=")[0]: key for key in keys}.values())


def _key_and_value(flag: str) -> tuple[str, Any]:
    """Returns the dotted key of `--config.a.b=v` and its value: text where it is no literal of Python."""
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
        ConfigError: if there is none, or it cannot be translated.
    """
    if is_run(recipe):
        return config_of_run(Path(recipe)), ()
    if Path(recipe).suffix in SUFFIXES:
        translation = translate(recipe)
        return translation.config, translation.notes
    return load_config(recipe), ()


def is_run(recipe: str) -> bool:
    """Returns whether a recipe is a folder, as that of a run, and no name of a recipe in the package."""
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
    # Of a key it has not, ml_collections gives the repr of its name, of which it may give the repr once more.
    with contextlib.suppress(ValueError, SyntaxError):
        text = str(ast.literal_eval(text))
    name, *hints = text.splitlines() or [""]
    if name.strip("'").isidentifier():
        name = "there is no config key " + repr(name.strip("'")) + "." * bool(hints)
    return " ".join([name, *hints])
