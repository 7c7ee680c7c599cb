"""Converts OpenGait checkpoints to training states, and back."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from mcl_jax.convert.mapping import Entry, put_together
from mcl_jax.convert.opengait import COUNTERPARTS, entries
from mcl_jax.convert.opengait.pieces import StateDict
from mcl_jax.convert.original_gaitset import from_original_gaitset
from mcl_jax.convert.safetensors_reader import SUFFIX as SAFETENSORS
from mcl_jax.convert.safetensors_reader import read_safetensors
from mcl_jax.convert.sizes import backbone_block, pretrained_model, read_block
from mcl_jax.convert.torch_reader import read_torch_file
from mcl_jax.errors import CheckpointError, ConfigError
from mcl_jax.models.registry import Weights, model_of
from mcl_jax.utils.digest import file_digest
from mcl_jax.utils.pytrees import ArrayTree, get_leaf, replace_leaves

MAX_STEPS = 2**31 - 1
"""Steps are int32."""

_PREFIXES = ("module.", "_orig_mod.")  # of data-parallel training, and of torch.compile
_HOLDERS = ("model", "state_dict", "model_state_dict")


@dataclass(frozen=True)
class TorchCheckpoint:
    """Content of an OpenGait checkpoint.

    Attributes:
        state_dict: tensors by OpenGait's names, without the prefixes that PyTorch adds.
        optimizer: PyTorch's optimiser state, or None.
        scheduler: PyTorch's schedule state, or None.
        iteration: number of training steps, 0 if the file does not have it.
        digest: SHA-256 of the file, in hexadecimal.
    """

    state_dict: dict[str, np.ndarray]
    optimizer: Mapping[str, Any] | None
    scheduler: Mapping[str, Any] | None
    iteration: int
    digest: str


@dataclass(frozen=True)
class ImportedModel:
    """A model's state after an import.

    Attributes:
        params: parameters, with the structure and types of the given ones.
        batch_stats: batch statistics, likewise.
        parameters: number of values imported into the parameters.
        counted_steps: number of training steps counted by PyTorch's batch norms; 0 without batch norms.
    """

    params: ArrayTree
    batch_stats: ArrayTree
    parameters: int
    counted_steps: int


def load_checkpoint(path: Path | str) -> TorchCheckpoint:
    """Reads `{model, optimizer, scheduler, iteration}`, `{state_dict, …}` or a bare `state_dict`.

    Names of the original GaitSet are translated to OpenGait's.

    Raises:
        CheckpointError: if the file cannot be read, or is not such a checkpoint.
    """
    content = _from_safetensors(path) if Path(path).suffix == SAFETENSORS else read_torch_file(path)
    found: dict[str, Any] = content if isinstance(content, dict) else {}
    holder = next((key for key in _HOLDERS if isinstance(found.get(key), dict)), None)
    model = content if holder is None else found[holder]
    whole: dict[str, Any] = {} if holder is None else found
    iteration = _whole_number(whole.get("iteration", 0))
    if not isinstance(model, dict) or not model:
        raise CheckpointError(f"{path}: has no state_dict")
    for name, value in model.items():
        if not isinstance(name, str) or not name.isprintable() or not isinstance(value, np.ndarray):
            raise CheckpointError(f"{path}: has no state_dict ({ascii(name)[:80]} is not a tensor)")
    if type(iteration) is not int or not 0 <= iteration <= MAX_STEPS:
        raise CheckpointError(f"{path}: its iteration is not a valid number of steps")
    while prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name in model)), ""):
        model = {name.removeprefix(prefix): value for name, value in model.items()}
    model = from_original_gaitset(model)
    digest = file_digest(Path(path))
    return TorchCheckpoint(model, whole.get("optimizer"), whole.get("scheduler"), iteration, digest)


def _from_safetensors(path: Path | str) -> dict[str, Any]:
    """Returns tensors and iteration in the form of a PyTorch file."""
    tensors, notes = read_safetensors(path)
    iteration = notes.get("iteration", "0")
    is_number = iteration.isdecimal() and len(iteration) < 20  # Python refuses to read thousands of digits
    return {"model": tensors, "iteration": int(iteration) if is_number else iteration}


def _whole_number(value: Any) -> Any:
    """Returns a number of steps as an int; some programs write a tensor, or a whole float."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    return int(value) if isinstance(value, float) and value.is_integer() else value


def import_weights(
    checkpoint: TorchCheckpoint,
    source: str,
    expected: Mapping[str, Any] | None = None,
    *,
    partly: bool = False,
) -> Weights:
    """Returns the weights in a checkpoint; model and sizes are found from its names and shapes.

    Args:
        checkpoint: from `load_checkpoint`.
        source: path of the file, for messages.
        expected: `model` block of a config, or some arguments of the model, for settings that the file does
            not have (`Counterpart.untold`). Those missing here too get defaults, with a warning.
        partly: whether a pre-trained backbone will do, which has no arrays of a head.

    Raises:
        CheckpointError: if the model is unknown, names or shapes do not fit it, or the file holds a
            pre-trained backbone and that will not do.
    """
    try:
        if name := pretrained_model(checkpoint.state_dict):
            return _import_backbone(checkpoint, source, expected or {}, name, partly=partly)
        block = read_block(checkpoint.state_dict, expected or {})
        shapes = model_of(block, dtype="float32").shapes()
        imported = import_state_dict(checkpoint.state_dict, *shapes, model=block["name"])
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"{source}: {error}") from None
    _note_assumed(block, source, expected or {})
    params, batch_stats = jax.device_get((imported.params, imported.batch_stats))
    uncounted = imported.counted_steps - checkpoint.iteration if imported.counted_steps else 0
    return Weights(block, params, batch_stats, checkpoint.iteration, source, uncounted)


def _import_backbone(
    checkpoint: TorchCheckpoint, source: str, expected: Mapping[str, Any], name: str, *, partly: bool
) -> Weights:
    """Returns the weights of a pre-trained backbone, from which training starts.

    Raises:
        CheckpointError: if that will not do, or names or shapes are not those of the model.
    """
    if not partly:
        raise CheckpointError(
            f"is a pre-trained backbone of {name}, without a head; to train one, give it as "
            "--config.init_from with --config.train.fit_partly=True"
        )
    beside = COUNTERPARTS[name].pretrained_beside
    state_dict = {key: x for key, x in checkpoint.state_dict.items() if not key.startswith(beside)}
    block = backbone_block(state_dict, expected)
    shapes = model_of(block, dtype="float32").shapes()
    without_head = ({key: part for key, part in tree.items() if key != "head"} for tree in shapes)
    imported = import_state_dict(state_dict, *without_head, model=name)
    _note_assumed(block, source, expected)
    params, batch_stats = jax.device_get((imported.params, imported.batch_stats))
    return Weights(block, params, batch_stats, checkpoint.iteration, source)


def _note_assumed(block: Mapping[str, Any], source: str, expected: Mapping[str, Any]) -> None:
    """Warns about settings of a model that neither the file nor the user gives."""
    assumed = {key: block[key] for key in COUNTERPARTS[block["name"]].untold if key not in expected}
    if assumed:
        logging.warning(
            "%s: the file does not give %s; assumed as in the published models. If it was trained "
            "otherwise, set mcl_jax.load(…, %s=…), or model.%s in a config",
            source,
            ", ".join(f"{key} {value}" for key, value in assumed.items()),
            next(iter(assumed)),
            next(iter(assumed)),
        )


def import_state_dict(
    state_dict: StateDict, params: ArrayTree, batch_stats: ArrayTree, *, model: str
) -> ImportedModel:
    """Replaces a model's arrays by the tensors of a `state_dict`.

    Args:
        state_dict: names without prefix → arrays of any floating type.
        params: parameters of a new model.
        batch_stats: its batch statistics.
        model: a key of `mcl_jax.models.MODELS`.

    Returns:
        The new state; the arguments are not changed.

    Raises:
        CheckpointError: if names or shapes differ; the message has a table of all differences.
    """
    trees = {"params": params, "batch_stats": batch_stats}
    wanted = entries(model, params)
    rows = _differences(state_dict, wanted, trees)
    if rows:
        raise CheckpointError(_table(rows))

    found = {
        collection: put_together(
            ((entry, state_dict[entry.name]) for entry in wanted if entry.collection == collection), tree
        )
        for collection, tree in trees.items()
    }
    return ImportedModel(
        params=replace_leaves(params, found["params"]),
        batch_stats=replace_leaves(batch_stats, found["batch_stats"]),
        parameters=sum(array.size for array in found["params"].values()),
        counted_steps=max((int(state_dict[e.name]) for e in wanted if e.is_counter), default=0),
    )


def export_state_dict(
    params: ArrayTree, batch_stats: ArrayTree, *, model: str, steps: int
) -> OrderedDict[str, np.ndarray]:
    """Returns a `state_dict` that OpenGait's model of the same sizes can load with strict=True.

    Args:
        params: parameters.
        batch_stats: batch statistics.
        model: a key of `mcl_jax.models.MODELS`.
        steps: number of training steps, for PyTorch's counters.
    """
    trees = {"params": params, "batch_stats": batch_stats}
    state_dict = OrderedDict()
    for entry in entries(model, params):
        if entry.constant is not None:
            state_dict[entry.name] = entry.constant
        elif entry.collection is None:
            state_dict[entry.name] = np.array(steps, np.int64)
        else:
            leaf = np.asarray(get_leaf(trees[entry.collection], entry.path))
            state_dict[entry.name] = np.ascontiguousarray(entry.to_torch_layout(leaf))
    return state_dict


def _differences(
    state_dict: StateDict, wanted: list[Entry], trees: Mapping[str, ArrayTree]
) -> list[tuple[str, str, str, str]]:
    """Returns (name, problem, in the file, in the model) for each difference of a `state_dict`."""
    rows = []
    for entry in wanted:
        shape = _torch_shape(entry, trees)
        if entry.name not in state_dict:
            if entry.unused:
                continue
            rows.append((entry.name, "missing", "-", str(shape)))
            continue
        array = state_dict[entry.name]
        floating = jnp.issubdtype(array.dtype, jnp.floating)
        if array.shape != shape:
            rows.append((entry.name, "wrong shape", str(array.shape), str(shape)))
        elif floating != _is_floating(entry):
            rows.append((entry.name, "wrong type", str(array.dtype), "int64" if floating else "float32"))
        elif entry.constant is not None and not (entry.unused or np.array_equal(array, entry.constant)):
            rows.append((entry.name, "wrong numbers", _brief(array), _brief(entry.constant)))
    known = {entry.name for entry in wanted}
    rows += [
        (name, "unexpected", str(array.shape), "-") for name, array in state_dict.items() if name not in known
    ]
    return rows


def _torch_shape(entry: Entry, trees: Mapping[str, ArrayTree]) -> tuple[int, ...]:
    """Returns the shape that PyTorch's tensor must have."""
    if entry.constant is not None:
        return entry.constant.shape
    if entry.collection is None:
        return ()
    leaf = get_leaf(trees[entry.collection], entry.path)
    # A stand-in of the same shape that takes no memory, because the leaf may be a large array.
    return entry.to_torch_layout(np.broadcast_to(np.float32(0), leaf.shape)).shape


def _is_floating(entry: Entry) -> bool:
    """Returns whether PyTorch's tensor holds floating-point numbers."""
    if entry.constant is not None:
        return bool(jnp.issubdtype(entry.constant.dtype, jnp.floating))
    return entry.collection is not None


def _brief(array: np.ndarray) -> str:
    return f"{array.ravel()[:3].tolist()}…"


def _table(rows: list[tuple[str, str, str, str]]) -> str:
    counts = OrderedDict.fromkeys(problem for _, problem, _, _ in rows)
    summary = ", ".join(f"{sum(row[1] == problem for row in rows)} {problem}" for problem in counts)
    cells = [("name", "problem", "in the file", "in the model"), *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(
        [f"the checkpoint does not fit the model: {summary}", *(f"  {line}".rstrip() for line in lines)]
    )
