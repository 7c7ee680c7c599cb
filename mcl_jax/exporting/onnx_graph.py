"""An ONNX graph under construction, and the sizes of its arrays that depend on the number of frames."""

import ast
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Value = str | np.ndarray | np.generic
"""The name of a tensor of the graph, or a constant array."""

Operation = Callable[..., Any]
"""Writes an operation of a program: from the graph, the equation and its inputs to a value, or a list."""

_SUMS = {ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul", ast.Pow: "Pow"}
_CALLS = {"mod": "Mod", "max": "Max", "min": "Min"}


class CannotWriteError(Exception):
    """An operation has no counterpart in ONNX; the message says of which kind it is."""


class Graph:
    """An ONNX graph under construction.

    Attributes:
        nodes: operations so far, in order.
        constants: constant arrays.
    """

    def __init__(self, source: str, symbol: str) -> None:
        """Starts a graph with one input.

        Args:
            source: name of the input.
            symbol: name of the size of its first dimension, which is free, as shapes of arrays have it.
        """
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._names = 0
        self._source, self._symbol = source, symbol
        self._sizes: dict[str, Value] = {}

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

    def cast(self, value: Value, dtype: Any) -> Value:
        """Converts a value to a NumPy type."""
        if not isinstance(value, str):
            return np.asarray(value).astype(dtype)
        return self.add("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def size(self, size: Any) -> Value:
        """Returns the size of a dimension, int64 [1]: a number, or computed from the number of frames.

        Raises:
            CannotWriteError: if it depends on anything else.
        """
        if isinstance(size, int | np.integer):
            return np.array([size], np.int64)
        text = str(size)
        if text not in self._sizes:  # the notation of `jax.export.symbolic_shape`
            self._sizes[text] = self._computed(ast.parse(text.replace("^", "**"), mode="eval").body)
        return self._sizes[text]

    def shape(self, sizes: Sequence[Any]) -> Value:
        """Returns a shape, int64 [n], as far as it is known."""
        if all(isinstance(size, int | np.integer) for size in sizes):
            return np.array(sizes, np.int64)
        return self.add("Concat", *map(self.size, sizes), axis=0)

    def filled(self, value: Value, shape: Sequence[Any]) -> str:
        """Returns an array of a shape that is filled with a number."""
        return self.add("Expand", value, self.shape(shape))

    def _computed(self, node: ast.expr) -> Value:
        match node:
            case ast.Constant(value=int(number)):
                return np.array([number], np.int64)
            case ast.Name(id=name) if name == self._symbol:
                return self.add("Shape", self._source, start=0, end=1)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self.add("Neg", self._computed(operand))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _SUMS:
                return self.add(_SUMS[type(op)], self._computed(left), self._computed(right))
            case ast.Call(func=ast.Name(id="floordiv"), args=[left, right]):
                x, y = self._computed(left), self._computed(right)
                return self.add("Div", self.add("Sub", x, self.add("Mod", x, y)), y)
            case ast.Call(func=ast.Name(id=name), args=arguments) if name in _CALLS:
                return self.add(_CALLS[name], *map(self._computed, arguments))
        raise CannotWriteError(f"with a size of {ast.unparse(node)}")

    def _name(self) -> str:
        self._names += 1
        return f"t{self._names}"


def is_free(shape: Sequence[Any]) -> bool:
    """Returns whether a shape depends on the number of frames."""
    return not all(isinstance(size, int) for size in shape)


def shape_of(atom: Any) -> tuple[Any, ...]:
    """Returns the shape of an array of a program."""
    return tuple(atom.aval.shape)


def dtype_of(atom: Any) -> np.dtype[Any]:
    """Returns the type of the numbers of an array of a program."""
    return np.dtype(atom.aval.dtype)


def is_boolean(atom: Any) -> bool:
    """Returns whether an array of a program is of booleans."""
    return dtype_of(atom).kind == "b"


def as_shape(graph: Graph, x: Value, shape: Sequence[Any]) -> Value:
    """Reshapes x; one free dimension is whatever is left."""
    free = [i for i, size in enumerate(shape) if not isinstance(size, int)]
    if len(free) > 1:
        return graph.add("Reshape", x, graph.shape(shape))
    return graph.add("Reshape", x, np.array([-1 if i in free else n for i, n in enumerate(shape)], np.int64))
