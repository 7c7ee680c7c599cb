"""Finds a model's kind and sizes from the shapes in an OpenGait `state_dict`."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from mcl_jax.convert.opengait import COUNTERPARTS
from mcl_jax.convert.opengait.pieces import StateDict, size
from mcl_jax.errors import CheckpointError
from mcl_jax.models import MODELS
from mcl_jax.models.registry import PROVIDED
from mcl_jax.utils.signatures import config_arguments


def read_sizes(state_dict: StateDict) -> dict[str, Any]:
    """Returns the kind and sizes of a model from the shapes of its tensors.

    Args:
        state_dict: names without a `module.` prefix.

    Returns:
        `name`, and the arguments of the model that its shapes tell; nothing tells those in
        `Counterpart.untold`. One is missing where the tensors it would be read from are; all are if the model
        is unknown.
    """
<<<<<<< HEAD
    for name, counterpart in COUNTERPARTS.items():
        if any(mark in state_dict for mark in counterpart.marks):
            sizes = {"name": name, **counterpart.sizes(state_dict)}
            return {key: value for key, value in sizes.items() if value is not None}
    return {}
=======
    if "set_block1.forward_block.0.conv.weight" in state_dict:
        sizes = {
            "name": "gaitset",
            "channels": _channels(
                state_dict, [f"set_block{i}.forward_block.2.conv.weight" for i in (1, 2, 3)]
            ),
            "embed_dim": _size(state_dict, "Head.fc_bin", 2),
        }
    elif "Backbone.forward_block.conv1.conv.weight" in state_dict:
        sizes = {
            "name": "gaitbase",
            "channels": _widths(state_dict, [f"Backbone.forward_block.layer{i}." for i in _STAGES]),
            "layers": tuple(_count(state_dict, f"Backbone.forward_block.layer{i}.") for i in _STAGES),
            "embed_dim": _size(state_dict, "FCs.fc_bin", 2),
            "num_classes": _size(state_dict, CLASSIFIER, 2),
        }
    elif "layer0.forward_block.0.weight" in state_dict:
        sizes = _deepgaitv2(state_dict)
    else:
        sizes = {}
    return {key: value for key, value in sizes.items() if value is not None}
>>>>>>> real-files


def read_block(state_dict: StateDict, expected: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the `model` block that makes the model of a `state_dict`.

    Args:
        state_dict: names without a `module.` prefix.
        expected: `model` block of a config, or some arguments of the model, which say what the file does not
            tell; {} for the defaults.

    Raises:
        CheckpointError: if the model is unknown, or tensors that its sizes are read from are missing.
    """
    sizes = read_sizes(state_dict)
    if not sizes:
        shown = ", ".join(list(state_dict)[:3])
        raise CheckpointError(f"is of none of the models {', '.join(COUNTERPARTS)} (it holds {shown}, …)")
    arguments = config_arguments(MODELS[sizes["name"]], PROVIDED)
    name, untold = sizes["name"], COUNTERPARTS[sizes["name"]].untold
    free = {*untold, *MODELS[name].CHOICES}
    missing = [key for key in arguments if key not in sizes and key not in free]
    if missing:
        raise CheckpointError(
            f"seems to be of {name}, but tensors are missing that tell its {', '.join(missing)}"
        )
    likely = arguments | COUNTERPARTS[name].guess(sizes)
    given = expected if expected.get("name", name) == name else likely
    sizes |= {key: given.get(key, likely[key]) for key in untold}
    if "bins" in untold:
        _check_parts(state_dict, sizes)
    return sizes


def _check_parts(state_dict: StateDict, sizes: Mapping[str, Any]) -> None:
    """Raises CheckpointError where the bins do not make the parts of the file."""
    counterpart, bins = COUNTERPARTS[sizes["name"]], tuple(sizes["bins"])
    there, here = size(state_dict, counterpart.head, 0), counterpart.branches * sum(bins)
    if there is not None and there != here:
        raise CheckpointError(
            f"has {there} parts, and model.bins {bins} make {here}; set model.bins "
            "in a config as it was trained, and convert it with that: mcl-jax convert --config"
        )
<<<<<<< HEAD
=======


def _deepgaitv2(state_dict: StateDict) -> dict[str, Any]:
    if any(name.startswith("layer2.forward_block.") for name in state_dict):
        mode, inner = "2d", "forward_block."
    elif any(name.endswith(".shortcut3d.weight") for name in state_dict):
        mode, inner = "p3d", ""
    else:
        mode, inner = "3d", ""
    prefixes = ["layer1.forward_block.", *(f"layer{i}.{inner}" for i in _STAGES[1:])]
    layers = tuple(_count(state_dict, prefix) for prefix in prefixes)
    return {
        "name": "deepgaitv2",
        "mode": mode,
        "layers": layers,
        "channels": _widths(state_dict, prefixes),
        "num_classes": _size(state_dict, CLASSIFIER, 2),
    }


def _count(state_dict: StateDict, prefix: str) -> int:
    """Returns how many blocks a stage has, by the numbers behind its name."""
    return len({name[len(prefix) :].split(".")[0] for name in state_dict if name.startswith(prefix)})


def _widths(state_dict: StateDict, prefixes: list[str]) -> tuple[int, ...] | None:
    """Returns the width of each stage: that of most of its tensors, so that one that differs shows."""
    widths = []
    for prefix in prefixes:
        votes = Counter(
            tensor.shape[0]
            for name, tensor in state_dict.items()
            if name.startswith(prefix) and name.endswith(".weight") and tensor.ndim
        )
        if not votes:
            return None
        widths.append(votes.most_common(1)[0][0])
    return tuple(widths)


def _channels(state_dict: StateDict, kernels: list[str]) -> tuple[int, ...] | None:
    sizes = [size for name in kernels if (size := _size(state_dict, name, 0)) is not None]
    return tuple(sizes) if len(sizes) == len(kernels) else None


def _size(state_dict: StateDict, name: str, axis: int) -> int | None:
    if name not in state_dict or axis >= state_dict[name].ndim:
        return None
    return state_dict[name].shape[axis]
>>>>>>> real-files
