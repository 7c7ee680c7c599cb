"""Origin of a trained model: the config of its run and the figures of its test."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from mcl_jax.errors import UserError
from mcl_jax.utils.digest import DigestError, check_seal
from mcl_jax.utils.files import read_bounded
from mcl_jax.workdir.saved_config import last_config

_PATHS = (("init_from",), ("data", "root"), ("data", "partition"))  # of the machine that trained it
_MAX_BYTES = 2**26


def plain_recipe(config: ConfigDict | Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config as plain values, without the paths of a machine."""
    text = config.to_json_best_effort() if isinstance(config, ConfigDict) else json.dumps(dict(config))
    recipe: dict[str, Any] = json.loads(text)
    for *blocks, key in _PATHS:
        block = recipe
        for name in blocks:
            block = block.get(name, {})
        if key in block:
            block[key] = ""
    # The name of a protocol, or the path of a file with one.
    settings = recipe.get("eval", {})
    if "protocol" in settings:
        settings["protocol"] = Path(settings["protocol"]).name
    return recipe


def recipe_of_run(workdir: Path) -> dict[str, Any]:
    """Returns the config that a run was last trained with; {} where its record is missing or damaged."""
    try:
        return plain_recipe(last_config(workdir) or {})
    except UserError as error:
        logging.warning("the recipe is not known: %s", error)
        return {}


def measured(metrics_file: Path, digest: str) -> dict[str, Any]:
    """Returns the content of a metrics.json, if it is of a model.

    Args:
        metrics_file: of the test of the run that the model comes from.
        digest: of the model, as `Gait.digest`.

    Returns:
        {} if there is none, it is damaged, or of another model.
    """
    if not metrics_file.is_file():
        return {}
    try:
        metrics: dict[str, Any] = json.loads(read_bounded(metrics_file, _MAX_BYTES))
        check_seal(metrics)
        if metrics["model"]["digest"] == digest:
            return metrics
        reason = "it is of another model"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, DigestError) as error:
        reason = str(error).split("\n", 1)[0]
    logging.warning("%s: left aside: %s", metrics_file, reason)
    return {}
