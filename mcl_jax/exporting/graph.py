"""Writes a JAX program as an ONNX graph: each operation becomes one or a few ONNX operations.

Values that depend on no input, such as a kernel times its batch norm's factor, are computed here, once. A
number that fills an array of a free size stays a single number, which ONNX broadcasts.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import onnx
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal
from onnx import helper, numpy_helper

from mcl_jax.errors import ConfigError

OPSET = 18  # from 2022; the first in which the axes of a maximum are an input

Value = str | np.ndarray | np.generic
"""The name of a tensor of the graph, or a constant array."""


class Graph:
    """An ONNX graph under construction."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._names = 0

    def add(self, kind: str, *inputs: Value, **attributes: Any) -> str:
        """Adds one operation; returns the name of its output."""
        output = self._name()
        names = [self.named(value) for value in inputs]
        self.nodes.append(helper.make_node(kind, names, [output], **attributes))
        return output

    def named(self, value: Value) -> str:
        """Returns the name of a value; a constant is added to the graph first."""
        if isinstance(value, str):
            return value
        name = self._name()
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _name(self) -> str:
        self._names += 1
        return f"t{self._names}"


def onnx_model(
    program: Callable[..., jax.Array], argument: jax.ShapeDtypeStruct, names: tuple[str, str]
) -> onnx.ModelProto:
    """Returns a program of one array as an ONNX model.

    Args:
        program: a jittable function with constant shapes, except for the first dimension of its input.
        argument: shape and type of the input; the first dimension is free.
        names: names of the input and the output; the free dimension is named like the input.

    Raises:
        ConfigError: if an operation of the program cannot be written as ONNX.
    """
    closed = jax.make_jaxpr(program)(argument)
    graph = Graph()
    (output,) = _run(graph, closed.jaxpr, closed.consts, [names[0]])
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
    onnx.checker.check_model(model, full_check=True)
    return model


def _drop_unused(graph: Graph, output: str) -> None:
    needed, kept = {output}, []
    for node in reversed(graph.nodes):
        if node.output[0] in needed:
            needed.update(node.input)
            kept.append(node)
    graph.nodes = kept[::-1]
    graph.constants = [constant for constant in graph.constants if constant.name in needed]


def _run(graph: Graph, jaxpr: Jaxpr, constants: Sequence[Any], inputs: Sequence[Value]) -> list[Value]:
    """Adds the operations of a program; returns its outputs."""
    known: dict[Any, Value] = dict(zip(jaxpr.constvars, map(np.asarray, constants), strict=True))
    known |= dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Value:
        return np.asarray(atom.val, _aval(atom).dtype) if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        outputs = _one(graph, equation, [read(atom) for atom in equation.invars])
        known |= dict(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _one(graph: Graph, equation: JaxprEqn, inputs: list[Value]) -> list[Value]:
    name = equation.primitive.name
    for key in ("jaxpr", "call_jaxpr"):  # a nested function: jit, or one with its own derivative
        inner = equation.params.get(key)
        if isinstance(inner, ClosedJaxpr):
            return _run(graph, inner.jaxpr, inner.consts, inputs)
    shape = _aval(equation.outvars[0]).shape
    if name == "broadcast_in_dim" and not isinstance(inputs[0], str) and np.ndim(inputs[0]) == 0:
        return [inputs[0] if _is_free(shape) else np.broadcast_to(inputs[0], shape)]
    spread = [
        not isinstance(value, str) and np.ndim(value) < len(_aval(atom).shape)
        for value, atom in zip(inputs, equation.invars, strict=True)
    ]
    if any(spread) and name == "reshape":
        return inputs
    known = not any(isinstance(value, str) for value in inputs)
    if (name not in OPERATIONS and not known) or (any(spread) and name not in ELEMENTWISE):
        raise ConfigError(
            f"export: the operation {name} of this model cannot be written as ONNX: use stablehlo"
        )
    if known:
        results = equation.primitive.bind(*inputs, **equation.params)
        several = equation.primitive.multiple_results
        return [np.asarray(result) for result in (results if several else [results])]
    return [OPERATIONS[name](graph, equation, *inputs)]


def _aval(atom: Any) -> Any:
    return atom.aval


def _is_free(shape: Sequence[Any]) -> bool:
    return not all(isinstance(size, int) for size in shape)


def _simple(kind: str) -> Callable[..., Value]:
    return lambda graph, equation, *inputs: graph.add(kind, *inputs)


def _reduced(kind: str) -> Callable[..., Value]:
    return lambda graph, equation, x: graph.add(
        kind, x, np.array(equation.params["axes"], np.int64), keepdims=0
    )


def _convert(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
    return graph.add("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(equation.params["new_dtype"])))


def _shape(shape: Sequence[Any]) -> np.ndarray:
    """Returns a shape for ONNX, with −1 for the free dimension, if there is one."""
    return np.array([size if isinstance(size, int) else -1 for size in shape], np.int64)


def _reshape(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
    return graph.add("Reshape", x, _shape(_aval(equation.outvars[0]).shape))


def _broadcast(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
    shape, dimensions = equation.params["shape"], equation.params["broadcast_dimensions"]
    operand = _aval(equation.invars[0]).shape
    spread = [1] * len(shape)
    for dimension, size in zip(dimensions, operand, strict=True):
        spread[dimension] = size
    x = graph.add("Reshape", x, _shape(spread))
    if list(shape) == spread:
        return x
    grown = [size if isinstance(size, int) else 1 for size in shape]  # 1 keeps the size
    return graph.add("Expand", x, np.array(grown, np.int64))


def _transpose(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
    return graph.add("Transpose", x, perm=list(equation.params["permutation"]))


def _concatenate(graph: Graph, equation: JaxprEqn, *parts: Value) -> Value:
    return graph.add("Concat", *parts, axis=equation.params["dimension"])


def _box(graph: Graph, x: Value, *columns: Any) -> Value:
    """Cuts out a part of an array: starts, ends, axes and, unless they are 1, steps."""
    return graph.add("Slice", x, *(np.array(column, np.int64) for column in columns))


def _slice(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
    starts, limits = equation.params["start_indices"], equation.params["limit_indices"]
    strides = equation.params["strides"] or (1,) * len(starts)
    sizes = _aval(equation.invars[0]).shape
    cut = [
        i
        for i, limit in enumerate(limits)
        if (starts[i], strides[i]) != (0, 1) or str(limit) != str(sizes[i])
    ]
    ends = [limits[i] if isinstance(limits[i], int) else _end(sizes[i] - limits[i]) for i in cut]
    columns = ([starts[i] for i in cut], ends, cut, [strides[i] for i in cut])
    return _box(graph, x, *columns)


def _end(left_out: Any) -> int:
    """Returns the end of a slice of a free dimension that leaves out so many of the last elements."""
    if not isinstance(left_out, int):
        raise ConfigError("export: a slice of this model cannot be written as ONNX: use stablehlo")
    return -left_out or np.iinfo(np.int64).max


def _pad(graph: Graph, equation: JaxprEqn, x: Value, fill: Value) -> Value:
    before, after, between = zip(*equation.params["padding_config"], strict=True)
    if any(between) or min(*before, *after) < 0:
        raise ConfigError("export: a padding of this model cannot be written as ONNX: use stablehlo")
    return graph.add("Pad", x, np.array([*before, *after], np.int64), fill)


def _reverse(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
    axes = equation.params["dimensions"]
    first = np.iinfo(np.int64).min  # end of a slice that goes down to index 0
    columns = ([-1] * len(axes), [first] * len(axes), axes, [-1] * len(axes))
    return _box(graph, x, *columns)


def _gather(graph: Graph, equation: JaxprEqn, x: Value, start: Value) -> Value:
    """Cuts a box at a constant place; JAX traces an index beside a free dimension as such a gather."""
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    axes = numbers.start_index_map
    if isinstance(start, str) or np.shape(start) != (len(axes),) or numbers.operand_batching_dims:
        raise ConfigError("export: an index of this model cannot be written as ONNX: use stablehlo")
    whole = _aval(equation.invars[0]).shape
    ends = []
    for first, axis in zip(np.atleast_1d(start), axes, strict=True):
        end = int(first) + sizes[axis]
        ends.append(end if isinstance(end, int) else _end(whole[axis] - end))
    columns = (start, ends, axes)
    box = _box(graph, x, *columns)
    return graph.add("Reshape", box, _shape(_aval(equation.outvars[0]).shape))


def _select(graph: Graph, equation: JaxprEqn, which: Value, no: Value, yes: Value) -> Value:
    if not isinstance(which, str) and np.ndim(which) == 0:
        return yes if which else no
    return graph.add("Where", which, yes, no)


def _power(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
    return graph.add("Pow", x, np.asarray(equation.params["y"], _aval(equation.invars[0]).dtype))


def _rsqrt(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
    return graph.add("Reciprocal", graph.add("Sqrt", x))


def _square(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
    return graph.add("Mul", x, x)


def _product(graph: Graph, equation: JaxprEqn, x: Value, y: Value) -> Value:
    """Multiplies two arrays over any axes, as an einsum."""
    (contracted_x, contracted_y), (batch_x, batch_y) = equation.params["dimension_numbers"]
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    of_x = [next(letters) for _ in _aval(equation.invars[0]).shape]
    of_y = [next(letters) for _ in _aval(equation.invars[1]).shape]
    for i, j in (*zip(contracted_x, contracted_y, strict=True), *zip(batch_x, batch_y, strict=True)):
        of_y[j] = of_x[i]
    free = [of_x[i] for i in range(len(of_x)) if i not in (*contracted_x, *batch_x)]
    free += [of_y[j] for j in range(len(of_y)) if j not in (*contracted_y, *batch_y)]
    result = [of_x[i] for i in batch_x] + free
    last_by_first = (contracted_x, contracted_y, batch_x) == ((len(of_x) - 1,), (0,), ())
    if last_by_first and len(of_y) == 2:
        return graph.add("MatMul", x, y)
    return graph.add("Einsum", x, y, equation=f"{''.join(of_x)},{''.join(of_y)}->{''.join(result)}")


def _convolution(graph: Graph, equation: JaxprEqn, x: Value, kernel: Value) -> Value:
    parameters = equation.params
    numbers = parameters["dimension_numbers"]
    if isinstance(kernel, str) or any(size != 1 for size in parameters["lhs_dilation"]):
        raise ConfigError("export: this model's convolution cannot be written as ONNX: use stablehlo")
    y = graph.add(
        "Conv",
        graph.add("Transpose", x, perm=list(numbers.lhs_spec)),
        np.ascontiguousarray(np.transpose(kernel, numbers.rhs_spec)),
        strides=list(parameters["window_strides"]),
        pads=[before for before, _ in parameters["padding"]] + [after for _, after in parameters["padding"]],
        dilations=list(parameters["rhs_dilation"]),
        group=parameters["feature_group_count"],
    )
    return graph.add("Transpose", y, perm=np.argsort(numbers.out_spec).tolist())


OPERATIONS: dict[str, Callable[..., Value]] = {
    "add": _simple("Add"),
    "and": _simple("And"),
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "conv_general_dilated": _convolution,
    "convert_element_type": _convert,
    "copy": _simple("Identity"),
    "div": _simple("Div"),
    "dot_general": _product,
    "eq": _simple("Equal"),
    "exp": _simple("Exp"),
    "gather": _gather,
    "ge": _simple("GreaterOrEqual"),
    "gt": _simple("Greater"),
    "integer_pow": _power,
    "logistic": _simple("Sigmoid"),
    "lt": _simple("Less"),
    "max": _simple("Max"),
    "mul": _simple("Mul"),
    "pad": _pad,
    "reduce_max": _reduced("ReduceMax"),
    "reduce_sum": _reduced("ReduceSum"),
    "reshape": _reshape,
    "rev": _reverse,
    "rsqrt": _rsqrt,
    "select_n": _select,
    "slice": _slice,
    "square": _square,
    "squeeze": _reshape,
    "sub": _simple("Sub"),
    "transpose": _transpose,
}

ELEMENTWISE = {
    "add",
    "and",
    "convert_element_type",
    "copy",
    "div",
    "eq",
    "exp",
    "ge",
    "gt",
    "integer_pow",
    "lt",
    "max",
}
ELEMENTWISE |= {"mul", "rsqrt", "select_n", "square", "sub"}
"""Operations that accept a single number for an array filled with it."""
