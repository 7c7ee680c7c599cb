"""Reads the config that a run was last trained with from its workdir."""

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from mcl_jax.config import make_config
from mcl_jax.errors import ConfigError, UserError
from mcl_jax.utils.files import read_bounded

STRETCHES = "stretches.jsonl"
CONFIG = "config_train.json"

_MAX_BYTES = 2**24


def config_of_run(workdir: Path) -> ConfigDict:
    """Returns the config that a run was last trained with; newer keys get their defaults.

    Args:
        workdir: of the run.

    Raises:
        ConfigError: if there is none, or it has keys unknown to this version.
        UserError: if it cannot be read.
    """
    saved = last_config(workdir)
    if saved is None:
        raise ConfigError(
            f"{workdir}: not a run of mcl-jax train, as it has no {CONFIG}; give --config RECIPE"
        )
    try:
        return make_config(**_tuples(saved))
    except ConfigError as error:
        raise ConfigError(
            f"{workdir}: its config comes from another version: {error}; give --config"
        ) from None
    except (AttributeError, KeyError, TypeError):
        raise UserError(f"{workdir}: its config is damaged; give --config RECIPE") from None


def last_config(workdir: Path) -> dict[str, Any] | None:
    """Returns the latest config of a run as plain values; None if it was never trained.

    Runs of older versions have only the config of their last start.

    Raises:
        UserError: if it cannot be read.
    """
    for name in (STRETCHES, CONFIG):
        path = workdir / name
        if path.exists():
            content = read_record(path)
            try:
                last = json.loads(content.splitlines()[-1] if name == STRETCHES else content)
                return dict(last["config"] if name == STRETCHES else last)
            except (ValueError, KeyError, IndexError, RecursionError, TypeError):
                raise UserError(f"{path}: it is damaged; restore it from a copy, or remove it") from None
    return None


def read_record(path: Path) -> bytes:
    """Returns the content of a file that records how a run was trained.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        return read_bounded(path, _MAX_BYTES)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def _tuples(value: Any) -> Any:
    """Returns plain values with tuples, as in a recipe, instead of JSON's lists."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
