"""Parts of arrays in ONNX: slices, entries by number, padding and windows."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
from jax.extend.core import JaxprEqn
from jax.lax import GatherScatterMode

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

_LAST = np.iinfo(np.int64).max  # end of a slice that goes to the end
_BEFORE_FIRST = np.iinfo(np.int64).min  # end of a slice that goes down to index 0


def part(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
    """Writes a slice with constant starts and strides, whose ends may depend on the number of frames."""
    starts, limits = equation.params["start_indices"], equation.params["limit_indices"]
    strides = equation.params["strides"] or (1,) * len(starts)
    sizes = shape_of(equation.invars[0])
    cut = [
        i
        for i, limit in enumerate(limits)
        if (str(starts[i]), strides[i]) != ("0", 1) or str(limit) != str(sizes[i])
    ]
    ends = _ends(graph, [limits[i] for i in cut], [sizes[i] for i in cut])
    return _box(graph, x, graph.shape([starts[i] for i in cut]), ends, cut, [strides[i] for i in cut])


def split(graph: Graph, equation: JaxprEqn, x: Value) -> list[Value]:
    """Writes the parts of an array along an axis, each as a slice."""
    axis, ends = equation.params["axis"], np.cumsum(equation.params["sizes"])
    starts = [0, *ends[:-1]]
    return [_box(graph, x, [start], [end], [axis]) for start, end in zip(starts, ends, strict=True)]


def reverse(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
    """Writes an array in reverse order along some axes."""
    axes = equation.params["dimensions"]
    return _box(graph, x, [-1] * len(axes), [_BEFORE_FIRST] * len(axes), axes, [-1] * len(axes))


def pad(graph: Graph, equation: JaxprEqn, x: Value, fill: Value) -> Value:
    """Writes a padding, also a negative one, which cuts off."""
    before, after, between = zip(*equation.params["padding_config"], strict=True)
    if any(between):
        raise CannotWriteError("between the entries")
    amounts = graph.shape([*before, *after])
    if not is_boolean(equation.invars[0]):
        return graph.add("Pad", x, amounts, fill)
    return graph.cast(graph.add("Pad", graph.cast(x, np.int32), amounts, graph.cast(fill, np.int32)), bool)


def dynamic_slice(graph: Graph, equation: JaxprEqn, x: Value, *starts: Value) -> Value:
    """Writes a slice of constant sizes whose start is computed, and moved to where the slice fits."""
    sizes, whole = equation.params["slice_sizes"], shape_of(equation.invars[0])
    axes = [i for i, size in enumerate(sizes) if str(size) != str(whole[i])]
    one = np.array([1], np.int64)
    columns = [graph.add("Reshape", graph.cast(starts[i], np.int64), one) for i in axes]
    start = graph.add("Concat", *columns, axis=0)
    latest = graph.shape([whole[i] - sizes[i] for i in axes])
    start = graph.add("Max", np.zeros(len(axes), np.int64), graph.add("Min", start, latest))
    return _box_of(graph, x, start, [sizes[i] for i in axes], axes)


def gather(graph: Graph, equation: JaxprEqn, x: Value, start: Value) -> Value:
    """Writes one box of an array, as `x[:, i:]` is traced, or entries along an axis by their numbers."""
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    axes, whole = numbers.start_index_map, shape_of(equation.invars[0])
    if numbers.operand_batching_dims:
        raise CannotWriteError("with an index for each entry")
    index_shape = shape_of(equation.invars[1])
    if len(index_shape) > 1:
        return _take(graph, equation, x, start)
    if isinstance(start, str):
        box = _box_of(graph, x, graph.cast(start, np.int64), [sizes[axis] for axis in axes], axes)
    else:
        limits = [int(first) + sizes[axis] for first, axis in zip(np.atleast_1d(start), axes, strict=True)]
        box = _box(graph, x, start, _ends(graph, limits, [whole[axis] for axis in axes]), axes)
    return as_shape(graph, box, shape_of(equation.outvars[0]))


def _take(graph: Graph, equation: JaxprEqn, x: Value, index: Value) -> Value:
    """Entries along one axis, by their numbers."""
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    whole, rank = shape_of(equation.invars[0]), len(shape_of(equation.outvars[0]))
    alone = len(numbers.start_index_map) == 1 and numbers.collapsed_slice_dims == numbers.start_index_map
    axis = numbers.start_index_map[0]
    others = [i for i in range(len(whole)) if i != axis]
    of_index = [i for i in range(rank) if i not in numbers.offset_dims]
    if not alone or any(str(sizes[i]) != str(whole[i]) for i in others):
        raise CannotWriteError("at several axes")
    if of_index != list(range(axis, axis + len(of_index))):
        raise CannotWriteError("with an axis moved")
    promised = equation.params["mode"] == GatherScatterMode.PROMISE_IN_BOUNDS
    if not promised and (isinstance(index, str) or not _fits(index, whole[axis])):
        raise CannotWriteError("with an index that may lie outside")
    index = graph.add("Squeeze", graph.cast(index, np.int64), np.array([-1], np.int64))
    return graph.add("Gather", x, index, axis=axis)


def _fits(index: Any, size: Any) -> bool:
    return isinstance(size, int) and bool((index >= 0).all() and (index < size).all())


def windows(kind: str, fill: float) -> Operation:
    """Returns the operation that writes sums or maxima over windows, axis by axis, of shifted copies."""

    def operation(graph: Graph, equation: JaxprEqn, x: Value) -> Value:
        parameters = equation.params
        if any(size != 1 for size in parameters["base_dilation"]):
            raise CannotWriteError("with a stride below 1")
        before, after = zip(*parameters["padding"], strict=True)
        if any((*before, *after)):
            number = np.asarray(fill, dtype_of(equation.invars[0]))
            x = graph.add("Pad", x, graph.shape([*before, *after]), number)
        sizes = shape_of(equation.outvars[0])
        for axis, window in enumerate(parameters["window_dimensions"]):
            stride, apart = parameters["window_strides"][axis], parameters["window_dilation"][axis]
            starts = [i * apart for i in range(window)]
            if (window, stride) == (1, 1):
                continue
            span = (sizes[axis] - 1) * stride + 1
            copies = [
                _box(graph, x, [start], graph.shape([start + span]), [axis], [stride]) for start in starts
            ]
            x = reduce(lambda so_far, copy: graph.add(kind, so_far, copy), copies)
        return x

    return operation


def _box(graph: Graph, x: Value, *columns: Any) -> str:
    """Cuts out a part of an array: starts, ends, axes and, unless they are 1, steps."""
    return graph.add("Slice", x, *(c if isinstance(c, str) else np.array(c, np.int64) for c in columns))


def _box_of(graph: Graph, x: Value, start: Value, sizes: Sequence[Any], axes: Sequence[int]) -> str:
    """Cuts out a part of an array, of given sizes, from a computed start int64 [n]."""
    return _box(graph, x, start, graph.add("Add", start, graph.shape(sizes)), axes)


def _ends(graph: Graph, limits: Sequence[Any], sizes: Sequence[Any]) -> Value:
    """Returns the ends of a slice: from the front, or from the back of a free dimension."""
    ends = []
    for limit, size in zip(limits, sizes, strict=True):
        left_out = size - limit
        if isinstance(limit, int) or not isinstance(left_out, int):
            ends.append(limit)
        else:
            ends.append(-left_out or _LAST)
    return graph.shape(ends)
