"""Writes a JAX program as an ONNX graph: each operation becomes one or a few ONNX operations.

Values that depend on no input, such as a kernel times its batch norm's factor, are computed here, once. A
number that fills an array of a free size stays a single number, as long as ONNX broadcasts it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np
import onnx
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal
from onnx import helper

from mcl_jax.errors import ConfigError
from mcl_jax.exporting.onnx_graph import CannotWriteError, Graph, Value, dtype_of, is_free, shape_of
from mcl_jax.exporting.onnx_operations import ELEMENTWISE, OPERATIONS

OPSET = 18  # from 2022; the first in which the axes of a maximum are an input

_CALLS = ("jit", "closed_call", "custom_jvp_call", "custom_vjp_call", "checkpoint")
_LIBRARIES = tuple(str(Path(module.__file__ or "").parent) for module in (jax, flax))


def onnx_model(
    program: Callable[..., jax.Array], argument: jax.ShapeDtypeStruct, names: tuple[str, str]
) -> onnx.ModelProto:
    """Returns a program of one array as an ONNX model.

    Args:
        program: a jittable function; the sizes of its arrays are constant, or depend on the first dimension
            of its input.
        argument: shape and type of the input; the first dimension is free.
        names: names of the input and the output; the free dimension is named like the input.

    Raises:
        ConfigError: if an operation of the program cannot be written as ONNX, naming its layer.
    """
    closed = jax.make_jaxpr(program)(argument)
    graph = Graph(names[0], str(argument.shape[0]))
    (output,) = _run(graph, closed.jaxpr, closed.consts, [names[0]], "")
    (result,) = closed.out_avals
    graph.nodes.append(helper.make_node("Identity", [graph.named(output)], [names[1]]))
    _drop_unused(graph, names[1])

    def info(name: str, shape: Sequence[Any], dtype: Any) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)

    made = helper.make_graph(
        graph.nodes,
        "mcl_jax",
        [info(names[0], [names[0], *argument.shape[1:]], argument.dtype)],
        [info(names[1], result.shape, result.dtype)],
        graph.constants,
    )
    model = helper.make_model(
        made, producer_name="mcl_jax", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8
    )
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(f"export: as ONNX this model is not valid ({reason}): use stablehlo") from None
    return model


def _drop_unused(graph: Graph, output: str) -> None:
    needed, kept = {output}, []
    for node in reversed(graph.nodes):
        if node.output[0] in needed:
            needed.update(node.input)
            kept.append(node)
    graph.nodes = kept[::-1]
    graph.constants = [constant for constant in graph.constants if constant.name in needed]


def _run(
    graph: Graph, jaxpr: Jaxpr, constants: Sequence[Any], inputs: Sequence[Value], place: str
) -> list[Value]:
    """Adds the operations of a program; returns its outputs.

    Args:
        graph: to add to.
        jaxpr: the program.
        constants: that it has.
        inputs: that it is given.
        place: of the function that calls it, for messages; "" where its operations know better.
    """
    known: dict[Any, Value] = dict(zip(jaxpr.constvars, map(np.asarray, constants), strict=True))
    known |= dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Value:
        return np.asarray(atom.val, dtype_of(atom)) if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        outputs = _one(graph, equation, [read(atom) for atom in equation.invars], place)
        known |= dict(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _one(graph: Graph, equation: JaxprEqn, inputs: list[Value], place: str) -> list[Value]:
    name = equation.primitive.name
    if name == "platform_index":  # the way that is no platform's own
        platforms = equation.params["platforms"]
        return [np.int32(platforms.index(None) if None in platforms else 0)]
    here = place or _place(equation)
    called = _called(equation, inputs)
    if called is not None:
        program, arguments = called
        # What is inside of a jitted function may have been traced before, in another layer.
        inside = here if name == "jit" else place
        if isinstance(program, ClosedJaxpr):
            return _run(graph, program.jaxpr, program.consts, arguments, inside)
        return _run(graph, program, [], arguments, inside)
    try:
        return _written(graph, equation, inputs)
    except CannotWriteError as error:
        operation = f"{name} {error}".strip()
        raise ConfigError(
            f"export: the operation {operation} of {here or 'this model'} cannot be written as ONNX: "
            "use stablehlo"
        ) from None


def _called(equation: JaxprEqn, inputs: list[Value]) -> tuple[ClosedJaxpr | Jaxpr, list[Value]] | None:
    """Returns the function that an operation calls, and its arguments; None for any other operation."""
    if equation.primitive.name == "cond" and not isinstance(inputs[0], str):
        return equation.params["branches"][int(inputs[0])], inputs[1:]
    if equation.primitive.name in _CALLS:
        return equation.params.get("jaxpr") or equation.params["call_jaxpr"], inputs
    return None


def _written(graph: Graph, equation: JaxprEqn, inputs: list[Value]) -> list[Value]:
    """Adds one operation, or computes it if all is known; returns its outputs.

    Raises:
        CannotWriteError: if it has no counterpart.
    """
    name, shape = equation.primitive.name, shape_of(equation.outvars[0])
    elementwise = name in ELEMENTWISE
    if name == "broadcast_in_dim" and not isinstance(inputs[0], str) and np.ndim(inputs[0]) == 0:
        return [inputs[0] if is_free(shape) else np.broadcast_to(inputs[0], shape)]
    if not elementwise:
        inputs = [
            graph.filled(value, shape_of(atom)) if _fills(value, atom) else value
            for value, atom in zip(inputs, equation.invars, strict=True)
        ]
    known = not any(isinstance(value, str) for value in inputs)
    if known and name != "dim_as_value" and (elementwise or not is_free(shape)):
        inputs = [np.asarray(value) for value in np.broadcast_arrays(*inputs)] if is_free(shape) else inputs
        results = equation.primitive.bind(*inputs, **equation.params)
        several = equation.primitive.multiple_results
        return [np.asarray(result) for result in (results if several else [results])]
    if name not in OPERATIONS:
        raise CannotWriteError
    results = OPERATIONS[name](graph, equation, *inputs)
    return results if isinstance(results, list) else [results]


def _fills(value: Value, atom: Any) -> bool:
    """Returns whether a value that is known stands for an array of a free size that it fills."""
    return not isinstance(value, str) and is_free(shape_of(atom))


def _place(equation: JaxprEqn) -> str:
    """Returns the function of a layer that an operation is in, with file and line; "" if it is not known."""
    traceback: Any = equation.source_info.traceback
    for frame in traceback.frames if traceback is not None else ():
        if not frame.file_name.startswith(_LIBRARIES):
            return f"{frame.function_name} ({Path(frame.file_name).name}:{frame.line_num})"
    return ""
