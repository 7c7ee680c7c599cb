"""Finds a model's kind and sizes from the shapes in an OpenGait `state_dict`."""

from collections.abc import Mapping
from typing import Any

from mcl_jax.convert.opengait import COUNTERPARTS
from mcl_jax.convert.opengait.pieces import Counterpart, StateDict, size
from mcl_jax.errors import CheckpointError
from mcl_jax.models import MODELS
from mcl_jax.models.registry import PROVIDED, complete_block
from mcl_jax.utils.signatures import config_arguments


def read_sizes(state_dict: StateDict) -> dict[str, Any]:
    """Returns the kind and sizes of a model from the shapes of its tensors.

    Args:
        state_dict: names without a `module.` prefix.

    Returns:
        `name`, and the arguments of the model that can be read from shapes, so not those in
        `Counterpart.untold`. An argument is missing if its tensors are missing; {} if the model is unknown.
    """
    for name, counterpart in COUNTERPARTS.items():
        if _is_of(state_dict, counterpart):
            sizes = {"name": name, **counterpart.sizes(state_dict)}
            return {key: value for key, value in sizes.items() if value is not None}
    return {}


def pretrained_model(state_dict: StateDict) -> str | None:
    """Returns the model of a pre-trained backbone; None for a whole model, or an unknown one."""
    heads = ("FCs.", "BNNecks.")
    for name, counterpart in COUNTERPARTS.items():
        if counterpart.pretrained_beside and _is_of(state_dict, counterpart):
            return None if any(tensor.startswith(heads) for tensor in state_dict) else name
    return None


def backbone_block(state_dict: StateDict, expected: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a `model` block for a pre-trained backbone; the sizes of its head are arbitrary.

    Args:
        state_dict: of a model that `pretrained_model` knows.
        expected: see `read_block`.

    Raises:
        CheckpointError: if the bins do not make the parts of the file.
    """
    sizes = read_sizes(state_dict)
    given = expected if expected.get("name") == sizes["name"] else {}
    told = {key: given[key] for key in COUNTERPARTS[sizes["name"]].untold if key in given}
    block = complete_block({**sizes, **told, "num_classes": 1})
    _check_parts(state_dict, block)
    return block


def _is_of(state_dict: StateDict, counterpart: Counterpart) -> bool:
    there = any(mark in state_dict for mark in counterpart.marks)
    others = counterpart.without
    return there and not (others and any(name.startswith(others) for name in state_dict))


def read_block(state_dict: StateDict, expected: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the `model` block for the model of a `state_dict`.

    Args:
        state_dict: names without a `module.` prefix.
        expected: `model` block of a config, or some arguments of the model, for settings that the file does
            not have; {} for the defaults.

    Raises:
        CheckpointError: if the model is unknown, or tensors needed for its sizes are missing.
    """
    sizes = read_sizes(state_dict)
    if not sizes:
        shown = ", ".join(list(state_dict)[:3])
        raise CheckpointError(
            f"is a checkpoint of none of these models: {', '.join(COUNTERPARTS)} (it has {shown}, …)"
        )
    arguments = config_arguments(MODELS[sizes["name"]], PROVIDED)
    name, untold = sizes["name"], COUNTERPARTS[sizes["name"]].untold
    free = {*untold, *MODELS[name].CHOICES}
    missing = [key for key in arguments if key not in sizes and key not in free]
    if missing:
        raise CheckpointError(
            f"seems to be a checkpoint of {name}, but tensors that give its {', '.join(missing)} are missing"
        )
    likely = arguments | COUNTERPARTS[name].guess(sizes)
    given = expected if expected.get("name", name) == name else likely
    sizes |= {key: given.get(key, likely[key]) for key in untold}
    if "bins" in untold:
        _check_parts(state_dict, sizes)
    return sizes


def _check_parts(state_dict: StateDict, sizes: Mapping[str, Any]) -> None:
    """Raises CheckpointError if the bins do not give the number of parts in the file."""
    counterpart, bins = COUNTERPARTS[sizes["name"]], tuple(sizes["bins"])
    there, here = size(state_dict, counterpart.head, 0), counterpart.branches * sum(bins)
    if there is not None and there != here:
        raise CheckpointError(
            f"has {there} parts, but model.bins {bins} give {here}; set model.bins in a config to the value "
            "used in training, and convert with it: mcl-jax convert --config"
        )
