"""The operations of JAX programs that can be written as ONNX, by their names."""

from functools import reduce
from typing import Any

import numpy as np
from jax.extend.core import JaxprEqn
from jax.lax import RoundingMethod

from mcl_jax.exporting import onnx_indexing
from mcl_jax.exporting.onnx_graph import (
    CannotWriteError,
    Graph,
    Operation,
    Value,
    as_shape,
    dtype_of,
    is_boolean,
    shape_of,
)


def _simple(kind: str, **attributes: Any) -> Operation:
    return lambda graph, equation, *inputs: graph.add(kind, *inputs, **attributes)


def _with_number(kind: str, number: float, *, first: bool = False) -> Operation:
    """An operation of ONNX on x and a constant."""

    def operation(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
        constant = np.asarray(number, dtype_of(equation.invars[0]))
        return graph.add(kind, constant, x) if first else graph.add(kind, x, constant)

    return operation


def _chain(*operations: Operation) -> Operation:
    def operation(graph: Graph, equation: JaxprEqn, *inputs: Value) -> Value:
        first, *rest = operations
        return reduce(lambda x, then: then(graph, equation, x), rest, first(graph, equation, *inputs))

    return operation


def _of_booleans(kind: str) -> Operation:
    def operation(graph: Graph, equation: JaxprEqn, *inputs: Value) -> Value:
        if not is_boolean(equation.invars[0]):
            raise CannotWriteError("of whole numbers")
        return graph.add(kind, *inputs)

    return operation


def _reduced(kind: str) -> Operation:
    def operation(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
        return graph.add(kind, x, np.array(equation.params["axes"], np.int64), keepdims=0)

    return operation


def _reduced_boolean(kind: str) -> Operation:
    def operation(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
        return graph.cast(_reduced(kind)(graph, equation, graph.cast(x, np.int32)), bool)

    return operation


def _arg(kind: str) -> Operation:
    def operation(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
        (axis,) = equation.params["axes"]
        return graph.cast(graph.add(kind, x, axis=axis, keepdims=0), equation.params["index_dtype"])

    return operation


def _convert(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
    return graph.cast(x, equation.params["new_dtype"])


def _size(graph: Graph, equation: JaxprEqn) -> Value:
    scalar = graph.add("Squeeze", graph.size(equation.params["dim"]), np.array([0], np.int64))
    return graph.cast(scalar, dtype_of(equation.outvars[0]))


def _count(graph: Graph, equation: JaxprEqn) -> Value:
    """0, 1, 2, … along one axis."""
    shape, axis = equation.params["shape"], equation.params["dimension"]
    end = graph.add("Squeeze", graph.size(shape[axis]), np.array([0], np.int64))
    numbers = graph.cast(graph.add("Range", np.int64(0), end, np.int64(1)), equation.params["dtype"])
    column = [1] * len(shape)
    column[axis] = -1
    return graph.filled(graph.add("Reshape", numbers, np.array(column, np.int64)), shape)


def _reshape(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
    return as_shape(graph, x, shape_of(equation.outvars[0]))


def _broadcast(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
    shape, dimensions = equation.params["shape"], equation.params["broadcast_dimensions"]
    spread: list[Any] = [1] * len(shape)
    for dimension, size in zip(dimensions, shape_of(equation.invars[0]), strict=True):
        spread[dimension] = size
    x = as_shape(graph, x, spread)
    kept = [str(size) == str(old) for size, old in zip(shape, spread, strict=True)]
    if all(kept):
        return x
    return graph.filled(x, [1 if same else size for same, size in zip(kept, shape, strict=True)])


def _transpose(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
    return graph.add("Transpose", x, perm=list(equation.params["permutation"]))


def _concatenate(graph: Graph, equation: JaxprEqn, *parts: Value) -> Value:
    axis = equation.params["dimension"]
    # A part of size 0, as of a padding by nothing, could not be written: to Reshape 0 means another thing.
    sizes = [str(shape_of(atom)[axis]) for atom in equation.invars]
    present = [part for part, size in zip(parts, sizes, strict=True) if size != "0"]
    return graph.add("Concat", *present, axis=axis)


def _stack(graph: Graph, equation: JaxprEqn, *parts: Value) -> Value:
    axis = np.array([equation.params["axis"]], np.int64)
    return graph.add("Concat", *(graph.add("Unsqueeze", x, axis) for x in parts), axis=int(axis[0]))


def _tile(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
    return graph.add("Tile", x, graph.shape(equation.params["reps"]))


def _select(graph: Graph, equation: JaxprEqn, which: Value, no: Value, *others: Value) -> Value:
    if len(others) != 1 or not is_boolean(equation.invars[0]):
        raise CannotWriteError("of more than two")
    (yes,) = others
    if not isinstance(which, str) and np.ndim(which) == 0:
        return yes if which else no
    if not is_boolean(equation.outvars[0]):
        return graph.add("Where", which, yes, no)
    return graph.add("Or", graph.add("And", which, yes), graph.add("And", graph.add("Not", which), no))


def _clamp(graph: Graph, equation: JaxprEqn, least: Value, x: Value, most: Value) -> Value:
    return graph.add("Min", graph.add("Max", x, least), most)


def _power(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
    return graph.add("Pow", x, np.asarray(equation.params["y"], dtype_of(equation.invars[0])))


def _round(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
    if equation.params["rounding_method"] != RoundingMethod.TO_NEAREST_EVEN:
        raise CannotWriteError("away from zero")
    return graph.add("Round", x)


def _is_finite(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
    return graph.add("Not", graph.add("Or", graph.add("IsInf", x), graph.add("IsNaN", x)))


def _square(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
    return graph.add("Mul", x, x)


def _cumulative_sum(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
    return graph.add("CumSum", x, np.int64(equation.params["axis"]), reverse=int(equation.params["reverse"]))


def _product(graph: Graph, equation: JaxprEqn, x: Value, y: Value) -> Value:
    """Multiplies two arrays over any axes, as an einsum."""
    (contracted_x, contracted_y), (batch_x, batch_y) = equation.params["dimension_numbers"]
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    of_x = [next(letters) for _ in shape_of(equation.invars[0])]
    of_y = [next(letters) for _ in shape_of(equation.invars[1])]
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
    if isinstance(kernel, str):
        raise CannotWriteError("with a kernel that depends on the frames")
    if any(size != 1 for size in parameters["lhs_dilation"]):
        raise CannotWriteError("with a stride below 1")
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


ELEMENTWISE: dict[str, Operation] = {
    "abs": _simple("Abs"),
    "add": _simple("Add"),
    "and": _of_booleans("And"),
    "ceil": _simple("Ceil"),
    "clamp": _clamp,
    "convert_element_type": _convert,
    "copy": _simple("Identity"),
    "cos": _simple("Cos"),
    "div": _simple("Div"),
    "eq": _simple("Equal"),
    "erf": _simple("Erf"),
    "erfc": _chain(_simple("Erf"), _with_number("Sub", 1, first=True)),
    "exp": _simple("Exp"),
    "exp2": _with_number("Pow", 2, first=True),
    "expm1": _chain(_simple("Exp"), _with_number("Sub", 1)),
    "floor": _simple("Floor"),
    "ge": _simple("GreaterOrEqual"),
    "gt": _simple("Greater"),
    "integer_pow": _power,
    "is_finite": _is_finite,
    "le": _simple("LessOrEqual"),
    "log": _simple("Log"),
    "log1p": _chain(_with_number("Add", 1), _simple("Log")),
    "logistic": _simple("Sigmoid"),
    "lt": _simple("Less"),
    "max": _simple("Max"),
    "min": _simple("Min"),
    "mul": _simple("Mul"),
    "ne": _chain(_simple("Equal"), _simple("Not")),
    "neg": _simple("Neg"),
    "not": _of_booleans("Not"),
    "or": _of_booleans("Or"),
    "pow": _simple("Pow"),
    "rem": _simple("Mod", fmod=1),
    "round": _round,
    "rsqrt": _chain(_simple("Sqrt"), _simple("Reciprocal")),
    "select_n": _select,
    "sign": _simple("Sign"),
    "sin": _simple("Sin"),
    "sqrt": _simple("Sqrt"),
    "square": _square,
    "stop_gradient": _simple("Identity"),
    "sub": _simple("Sub"),
    "tanh": _simple("Tanh"),
    "xor": _of_booleans("Xor"),
}
"""Operations that accept a single number for an array filled with it."""

OPERATIONS: dict[str, Operation] = ELEMENTWISE | {
    "argmax": _arg("ArgMax"),
    "argmin": _arg("ArgMin"),
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "conv_general_dilated": _convolution,
    "cumsum": _cumulative_sum,
    "dim_as_value": _size,
    "dot_general": _product,
    "dynamic_slice": onnx_indexing.dynamic_slice,
    "gather": onnx_indexing.gather,
    "iota": _count,
    "optimization_barrier": lambda graph, equation, *inputs: list(inputs),
    "pad": onnx_indexing.pad,
    "reduce_and": _reduced_boolean("ReduceMin"),
    "reduce_max": _reduced("ReduceMax"),
    "reduce_min": _reduced("ReduceMin"),
    "reduce_or": _reduced_boolean("ReduceMax"),
    "reduce_prod": _reduced("ReduceProd"),
    "reduce_sum": _reduced("ReduceSum"),
    "reduce_window_max": onnx_indexing.windows("Max", -np.inf),
    "reduce_window_sum": onnx_indexing.windows("Add", 0),
    "reshape": _reshape,
    "rev": onnx_indexing.reverse,
    "slice": onnx_indexing.part,
    "split": onnx_indexing.split,
    "squeeze": _reshape,
    "stack": _stack,
    "tile": _tile,
    "transpose": _transpose,
}
