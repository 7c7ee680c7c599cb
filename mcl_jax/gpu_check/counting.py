"""Counts kernels, bytes and collectives in the text of a scheduled XLA program.

The traffic of a launched operation is the bytes of its operands and outputs, each read or written once.
Caches make the true traffic smaller; a kernel that reads twice makes it larger.
"""

import dataclasses
import math
import re
from collections.abc import Iterator

_BYTES = {"pred": 1, "s4": 0.5, "u4": 0.5, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "f16": 2, "bf16": 2}
_BYTES |= {"s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8, "c64": 8, "c128": 16, "token": 0}

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")
_SHAPE = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")
_NAME = re.compile(r"%([\w.\-]+)")

# Operations that launch nothing by themselves.
_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id",
    "replica-id", "add-dependency", "opt-barrier", "while", "conditional", "call", "async-start",
    "async-update", "async-done", "all-reduce-done", "all-gather-done", "collective-permute-done",
    "copy-done", "domain",
}  # fmt: skip
_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_HOST = ("callback", "infeed", "outfeed", "send-to-host", "recv-from-host")


@dataclasses.dataclass(frozen=True)
class Operation:
    """One line of a program.

    Attributes:
        name: name of its output.
        kind: the operation.
        shape: shape of its output, as written.
        operands: names of its inputs.
        line: the whole line.
    """

    name: str
    kind: str
    shape: str
    operands: tuple[str, ...]
    line: str


@dataclasses.dataclass(frozen=True)
class Counts:
    """Counts of a scheduled program, on one device.

    Attributes:
        kernels: number of launches; launches in loops count each time.
        traffic: bytes that they read and write.
        convolution_traffic: the part of this from cuDNN's convolutions.
        moved: bytes written by kernels that only copy or transpose.
        largest_move: bytes of the largest of these.
        scatters: number of scatter operations.
        host_calls: number of calls to the host.
        unbounded_loops: number of loops of unknown length.
        collectives: kind and type → number, and bytes.
    """

    kernels: int
    traffic: float
    convolution_traffic: float
    moved: float
    largest_move: float
    scatters: int
    host_calls: int
    unbounded_loops: int
    collectives: dict[str, tuple[int, float]]


def bytes_of(shape: str) -> float:
    """Returns the bytes of a shape as XLA writes it; for a tuple, the sum."""
    return sum(
        _BYTES.get(kind, 0) * math.prod(int(n) for n in sizes.split(",") if n)
        for kind, sizes in _SHAPE.findall(shape)
    )


def computations(text: str) -> tuple[dict[str, list[Operation]], str]:
    """Returns the computations of a program by name, and the name of the one it starts with."""
    found: dict[str, list[Operation]] = {}
    current: list[Operation] = []
    entry = ""
    for line in text.splitlines():
        if start := _COMPUTATION.match(line):
            current = found.setdefault(start[2], [])
            entry = start[2] if start[1] else entry
        elif part := _INSTRUCTION.match(line):
            name, shape, kind, rest = part.groups()
            operands = tuple(_NAME.findall(rest.split("), ")[0]))
            current.append(Operation(name, kind, shape, operands, line))
    return found, entry


def launched(text: str) -> Iterator[tuple[Operation, float, int, list[Operation]]]:
    """Yields each operation that a program launches: its bytes, number of runs, and fused operations."""
    found, entry = computations(text)
    yield from _launched(found, entry, 1)


def _launched(
    found: dict[str, list[Operation]], name: str, times: int
) -> Iterator[tuple[Operation, float, int, list[Operation]]]:
    shapes = {operation.name: operation.shape for operation in found[name]}
    for operation in found[name]:
        if operation.kind == "while":
            yield from _launched(found, _called(operation, "body"), times * (turns(operation) or 1))
        elif operation.kind == "call":
            yield from _launched(found, _called(operation, "to_apply"), times)
        elif operation.kind == "async-start":
            yield from _launched(found, _called(operation, "calls"), times)
        elif operation.kind == "conditional":
            branches = re.search(r"branch_computations=\{([^}]*)\}", operation.line)
            names = _NAME.findall(branches[1]) if branches else [_called(operation, "true_computation")]
            yield from _launched(found, names[0], times)
        elif operation.kind not in _FREE:
            size = bytes_of(operation.shape) + sum(
                bytes_of(shapes.get(x, "")) for x in set(operation.operands)
            )
            fused = found[_called(operation, "calls")] if operation.kind == "fusion" else []
            yield operation, size, times, fused


def _called(operation: Operation, attribute: str) -> str:
    match = re.search(rf"\b{attribute}=%?([\w.\-]+)", operation.line)
    assert match is not None, operation.line
    return match[1]


def turns(loop: Operation) -> int | None:
    """Returns the number of turns of a loop; None if XLA does not know it."""
    match = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.line)
    return int(match[1]) if match else None


def is_convolution(operation: Operation) -> bool:
    """Returns whether it is a convolution by cuDNN."""
    return operation.kind == "custom-call" and "__cudnn$conv" in operation.line


def moves_only(operation: Operation, fused: list[Operation]) -> bool:
    """Returns whether a kernel only copies or transposes."""
    kinds = (
        {x.kind for x in fused} - {"parameter", "bitcast", "constant", "tuple"} if fused else {operation.kind}
    )
    return bool(kinds) and kinds <= {"copy", "transpose", "copy-start", "reshape"}


def count(text: str) -> Counts:
    """Counts a scheduled program, from the text that `Compiled.as_text` gives."""
    kernels, scatters, host_calls = 0, 0, 0
    traffic = convolutions = moved = largest = 0.0
    collectives: dict[str, tuple[int, float]] = {}
    for operation, size, times, fused in launched(text):
        kernels += times
        traffic += times * size
        convolutions += times * size * is_convolution(operation)
        if moves_only(operation, fused):
            moved += times * bytes_of(operation.shape)
            largest = max(largest, bytes_of(operation.shape))
        scatters += sum(x.kind == "scatter" for x in (operation, *fused))
        host_calls += any(word in operation.line.split("metadata=")[0] for word in _HOST)
        kind = operation.kind.removesuffix("-start")
        if kind in _COLLECTIVES:
            types = sorted({kind for kind, _ in _SHAPE.findall(operation.shape)})
            key = f"{kind} {'+'.join(types)}"
            number, total = collectives.get(key, (0, 0.0))
            collectives[key] = number + times, total + times * bytes_of(operation.shape)
    found, _ = computations(text)
    loops = [x for operations in found.values() for x in operations if x.kind == "while"]
    unbounded = sum(turns(loop) is None for loop in loops)
    return Counts(
        kernels, traffic, convolutions, moved, largest, scatters, host_calls, unbounded, collectives
    )
