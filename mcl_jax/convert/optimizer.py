"""Converts PyTorch's optimiser state to optax's, to continue an OpenGait run at its step."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mcl_jax.convert.importer import MAX_STEPS, TorchCheckpoint
from mcl_jax.convert.mapping import Entry, put_together
from mcl_jax.convert.opengait import COUNTERPARTS, entries
from mcl_jax.errors import CheckpointError
from mcl_jax.utils.pytrees import ArrayTree, get_leaf, replace_leaves

_KINDS = {optax.TraceState: ("SGD", "momentum_buffer"), optax.ScaleByAdamState: ("Adam", "exp_avg")}
# Options of SGD and Adam that change the meaning of the buffers → value when off.
_VARIANTS = {"nesterov": False, "dampening": 0, "amsgrad": False, "maximize": False}


def import_optimizer(checkpoint: TorchCheckpoint, opt_state: Any, params: ArrayTree, *, model: str) -> Any:
    """Replaces momentum and position of the schedule in a new state by PyTorch's.

    Parameters without buffers in PyTorch, because no step was taken yet, keep zeros.

    Args:
        checkpoint: a checkpoint whose `state_dict` fits the model in every name and shape.
        opt_state: state of an optax chain with `optax.trace` (SGD) or `optax.scale_by_adam`.
        params: the model's parameters.
        model: a key of `mcl_jax.models.MODELS`.

    Returns:
        A state of the same structure.

    Raises:
        CheckpointError: if the checkpoint has no optimiser state, or one of another optimiser.
    """
    wanted = entries(model, params)
    by_name = {entry.name: entry for entry in wanted if entry.collection == "params"}
    there = {entry.name for entry in wanted if "params" in (entry.collection, entry.unused)}
    names = _numbered([name for name in checkpoint.state_dict if name in there], checkpoint, model)
    buffers = {name: state for name, state in _buffers(checkpoint, names).items() if name in by_name}
    position = schedule_position(checkpoint)

    def moments(like: ArrayTree, key: str) -> ArrayTree:
        arrays = (
            (by_name[name], _checked(state.get(key), by_name[name], params, key))
            for name, state in buffers.items()
        )
        return replace_leaves(like, put_together(arrays, params))

    def convert(state: Any) -> Any:
        match state:
            case optax.TraceState():
                _check_kind(buffers, optax.TraceState)
                return optax.TraceState(moments(state.trace, "momentum_buffer"))
            case optax.ScaleByAdamState():
                _check_kind(buffers, optax.ScaleByAdamState)
                steps = {_int(_plain(s.get("step")), "its Adam step") for s in buffers.values()} or {0}
                if len(steps) > 1:
                    raise CheckpointError("its parameters have different numbers of Adam steps")
                return optax.ScaleByAdamState(
                    jnp.asarray(steps.pop(), state.count.dtype),
                    moments(state.mu, "exp_avg"),
                    moments(state.nu, "exp_avg_sq"),
                )
            case optax.ScaleByScheduleState():
                return optax.ScaleByScheduleState(jnp.asarray(position, state.count.dtype))
        return state

    kinds = (*_KINDS, optax.ScaleByScheduleState)
    return jax.tree.map(convert, opt_state, is_leaf=lambda state: isinstance(state, kinds))


def compare_recipe(checkpoint: TorchCheckpoint, expected: Mapping[str, Sequence[float]]) -> list[str]:
    """Returns a line for every setting that differs between the file's optimiser and the config.

    Args:
        checkpoint: a checkpoint with optimiser state.
        expected: PyTorch's name of a setting → its values by the config: first the general one, then those of
            parameter groups with other values; `lr` at the current position of the schedule.
    """
    lines = [
        f"{key} is {values[0]:g} in the config and {group[key]:g} in the file"
        for group in _groups(checkpoint)
        for key, values in expected.items()
        if isinstance(group.get(key), int | float)
        and not np.isclose(group[key], values, rtol=1e-6, atol=0).any()
    ]
    return list(dict.fromkeys(lines))


def _numbered(names: list[str], checkpoint: TorchCheckpoint, model: str) -> list[str]:
    """Returns the parameters in the order in which PyTorch numbers them: as given, but group by group.

    Parameters whose rate is 0 are in no group; see `Counterpart.group`.
    """
    number, group = len(_groups(checkpoint)), COUNTERPARTS[model].group
    if number <= 1:
        return names
    known = sorted(set(map(group, names)))
    return sorted((name for name in names if group(name) in known[-number:]), key=group)


def _groups(checkpoint: TorchCheckpoint) -> Sequence[Mapping[str, Any]]:
    optimizer = checkpoint.optimizer
    return optimizer.get("param_groups", ()) if isinstance(optimizer, Mapping) else ()


def schedule_position(checkpoint: TorchCheckpoint) -> int:
    """Returns the number of steps of PyTorch's schedule; the iteration if the file has no schedule.

    Raises:
        CheckpointError: if the schedule has no valid number.
    """
    if not isinstance(checkpoint.scheduler, Mapping):
        return checkpoint.iteration
    return _int(checkpoint.scheduler.get("last_epoch"), "its schedule's position")


def _buffers(checkpoint: TorchCheckpoint, names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Returns PyTorch's state of each parameter that has one, by name; `names` are in PyTorch's order."""
    optimizer = checkpoint.optimizer
    if not isinstance(optimizer, Mapping):
        raise CheckpointError("has no optimizer state; import it without --with-optimizer")
    try:
        for group in optimizer["param_groups"]:
            for key, off in _VARIANTS.items():
                if group.get(key, off) != off:
                    raise CheckpointError(f"its optimizer uses {key}, which mcl_jax does not support")
        numbers = [number for group in optimizer["param_groups"] for number in group["params"]]
        states = {number: _present(optimizer["state"].get(number, {})) for number in numbers}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError("its optimizer state is not PyTorch's {state, param_groups}") from error
    if len(numbers) != len(names):
        raise CheckpointError(f"its optimizer has {len(numbers)} parameters, but its model has {len(names)}")
    pairs = zip(names, numbers, strict=True)
    return {name: states[number] for name, number in pairs if states[number]}


def _check_kind(buffers: Mapping[str, Mapping[str, Any]], wanted: type) -> None:
    for kind, (name, key) in _KINDS.items():
        if kind is not wanted and any(key in state for state in buffers.values()):
            raise CheckpointError(f"was trained with {name}, but the config has {_KINDS[wanted][0]}")


def _present(state: Mapping[str, Any]) -> dict[str, Any]:
    # SGD without momentum stores None as its buffer.
    return {key: value for key, value in state.items() if value is not None}


def _checked(array: Any, entry: Entry, params: ArrayTree, key: str) -> np.ndarray:
    leaf = get_leaf(params, entry.path)
    shape = entry.to_torch_layout(np.broadcast_to(np.float32(0), leaf.shape)).shape
    if not isinstance(array, np.ndarray) or array.shape != shape:
        found = array.shape if isinstance(array, np.ndarray) else "missing"
        raise CheckpointError(f"its {key} of {entry.name} is {found}, but the parameter is {shape}")
    return array


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.ndarray) and value.size == 1 else value


def _int(value: Any, name: str) -> int:
    # PyTorch counts Adam's steps in float32.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value <= MAX_STEPS:
        raise CheckpointError(f"{name} is not a valid number of steps")
    return value
