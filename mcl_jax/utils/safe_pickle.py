"""Reads pickles of plain values without running them.

A pickle is a program for a small stack machine, and Python's own machine imports and calls anything that the
program names. The machine here knows only the opcodes that plain values need. The caller lists the allowed
names and gives a function for each. Any other name or opcode is refused. `pickletools` parses the arguments
of opcodes; no library offers both the parsing and a machine that refuses.

The result is bounded. A value counts once for each reference to it, so walking through the result, hashing it
or printing it ends in time. Values nest only a few levels deep. A container may change only until another
container holds it, as in every pickle that Python writes; so no container can hold itself.
"""

import io
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_NEWEST_PROTOCOL = 5
_MAX_DEPTH = 50
_MAX_OPERATIONS = 500_000  # a checkpoint needs about 50 per tensor
_MAX_MEMO_INDEX = 2**32  # a dict holds the memo: an index reserves nothing
_MAX_KEY = 2**60  # larger integers can be made to share one hash, which makes a dict very slow
_LONGEST_NAME = 100


class DamagedPickleError(Exception):
    """The program is broken, or builds too much for the size of its file; the message says which."""


class RefusedPickleError(Exception):
    """The pickle names something that is not on the list; the message is that name."""


@dataclass(frozen=True)
class Name:
    """The name of a function or class in the pickle: only text, never looked up.

    Attributes:
        text: module and name, e.g. "collections.OrderedDict".
    """

    text: str


@dataclass(frozen=True)
class Vocabulary:
    """Names that a pickle may use, and the functions that stand for them.

    Attributes:
        names: "module.name" → the function to call instead, or None if the name may only be an argument.
            The functions get unchecked plain values and `Name`s. TypeError and ValueError mean damage.
        build: returns what an object becomes when the pickle sets its state; gets object and state.
        persistent: returns what a persistent id stands for; None refuses such ids.
    """

    names: Mapping[str, Callable[..., Any] | None]
    build: Callable[[Any, Any], Any]
    persistent: Callable[[Any], Any] | None = None


def load(data: bytes, vocabulary: Vocabulary) -> Any:
    """Returns the value that a pickle describes.

    Args:
        data: the pickle, protocols 0 to 5; bytes after its end are ignored, as in Python.
        vocabulary: the names it may use.

    Raises:
        DamagedPickleError: it is broken, nested too deeply, or refers to values too often.
        RefusedPickleError: it uses a name or an opcode that plain values do not need. Nothing was run.
    """
    try:
        return _Machine(data, vocabulary).run()
    # Broken programs raise many kinds of errors, depending on the opcode and the function.
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise DamagedPickleError(type(error).__name__) from error


@dataclass(slots=True, eq=False)
class _Node:
    """A value on the stack or in the memo.

    Attributes:
        value: the value.
        size: number of values in it, shared ones counted each time.
        depth: number of nested containers.
        closed: whether another container holds it, so that it must not change any more.
    """

    value: Any
    size: int = 1
    depth: int = 0
    closed: bool = False


_MARK = _Node(None)
"""Marks where the operands of an opcode begin on the stack."""


class _Machine:
    """The stack machine. Every operation pops its operands off the stack and pushes its result."""

    def __init__(self, data: bytes, vocabulary: Vocabulary):
        self.file = io.BytesIO(data)
        self.length = len(data)
        self.vocabulary = vocabulary
        self.stack: list[_Node] = []
        self.memo: dict[int, _Node] = {}

    def run(self) -> Any:
        for _ in range(_MAX_OPERATIONS):
            code = self.file.read(1)
            if not code:
                raise DamagedPickleError("it has no end")
            if code == b".":
                (node,) = self._pop(len(self.stack))
                return node.value
            operation = _OPERATIONS.get(code)
            if operation is None:
                raise RefusedPickleError(_opcode_name(code))
            reader = _READERS[code]
            operation(self, None if reader is None else reader(self.file))
        raise DamagedPickleError(f"more than {_MAX_OPERATIONS} operations")

    def push(self, value: Any) -> None:
        self.stack.append(_Node(value))

    def _pop(self, count: int) -> list[_Node]:
        if len(self.stack) < count:
            raise DamagedPickleError("stack underflow")
        nodes = self.stack[len(self.stack) - count :]
        if _MARK in nodes:
            raise DamagedPickleError("a mark in place of a value")
        del self.stack[len(self.stack) - count :]
        return nodes

    def _pop_to_mark(self) -> list[_Node]:
        place = len(self.stack) - 1
        while place >= 0 and self.stack[place] is not _MARK:
            place -= 1
        if place < 0:
            raise DamagedPickleError("no mark")
        nodes = self._pop(len(self.stack) - place - 1)
        self.stack.pop()
        return nodes

    def _top(self) -> _Node:
        """Returns the object on top of the stack, which is about to change."""
        if not self.stack or self.stack[-1] is _MARK:
            raise DamagedPickleError("stack underflow")
        return self.stack[-1]

    def _hold(self, holder: _Node, nodes: list[_Node]) -> list[Any]:
        """Returns the values of nodes that go into a container, a construction or a state."""
        for node in nodes:
            node.closed = True
            holder.size += node.size
            holder.depth = max(holder.depth, node.depth + 1)
        if holder.closed:
            raise DamagedPickleError("a container changes after another has taken it in")
        if holder.depth > _MAX_DEPTH:
            raise DamagedPickleError(f"nested more than {_MAX_DEPTH} deep")
        # Without sharing, each value takes at least one byte of the file.
        if holder.size > 4 * self.length + 1000:
            raise DamagedPickleError("values refer to each other too often")
        return [node.value for node in nodes]

    def frame(self, length: int) -> None:
        if length > self.length - self.file.tell():
            raise DamagedPickleError("a frame is longer than the file")

    def protocol(self, version: int) -> None:
        if self.file.tell() != 2 or version > _NEWEST_PROTOCOL:
            raise DamagedPickleError(f"protocol {version} or a second one")

    def mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def put(self, index: int) -> None:
        if not 0 <= index < _MAX_MEMO_INDEX:
            raise DamagedPickleError("no memo index")
        self.memo[index] = self._top()

    def memoize(self, _: Any) -> None:
        self.put(len(self.memo))

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def tuple_of(self, nodes: list[_Node]) -> None:
        node = _Node(None)
        node.value = tuple(self._hold(node, nodes))
        self.stack.append(node)

    def marked_tuple(self, _: Any) -> None:
        self.tuple_of(self._pop_to_mark())

    def marked_list(self, _: Any) -> None:
        nodes = self._pop_to_mark()
        self.push([])
        self.extend(nodes)

    def marked_dict(self, _: Any) -> None:
        nodes = self._pop_to_mark()
        self.push({})
        self.update(nodes)

    def extend(self, nodes: list[_Node]) -> None:
        target = self._top()
        if type(target.value) is not list:
            raise DamagedPickleError("no list to append to")
        target.value.extend(self._hold(target, nodes))

    def update(self, nodes: list[_Node]) -> None:
        target = self._top()
        if type(target.value) is not dict or len(nodes) % 2:
            raise DamagedPickleError("no dict to set items of")
        values = self._hold(target, nodes)
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not (isinstance(key, str) or (isinstance(key, int) and abs(key) < _MAX_KEY)):
                raise DamagedPickleError("a key that is neither text nor a small integer")
            target.value[key] = value

    def name(self, text: str) -> None:
        if text not in self.vocabulary.names:
            raise RefusedPickleError(_printable(text))
        self.push(Name(text))

    def stack_name(self, _: Any) -> None:
        module, name = (node.value for node in self._pop(2))
        if type(module) is not str or type(name) is not str:
            raise DamagedPickleError("no name")
        self.name(f"{module}.{name}")

    def construct(self, _: Any) -> None:
        function, arguments = self._pop(2)
        if type(function.value) is not Name or type(arguments.value) is not tuple:
            raise DamagedPickleError("it calls something that is not a function")
        stand_in = self.vocabulary.names[function.value.text]
        if stand_in is None:
            raise DamagedPickleError(f"{function.value.text} is not a function")
        arguments.closed = True
        # The result may hold all of its arguments.
        self.stack.append(_Node(stand_in(*arguments.value), arguments.size, arguments.depth))

    def build(self, _: Any) -> None:
        (state,) = self._pop(1)
        target = self._top()
        self._hold(target, [state])
        target.value = self.vocabulary.build(target.value, state.value)

    def persistent(self, _: Any) -> None:
        if self.vocabulary.persistent is None:
            raise RefusedPickleError("a persistent id")
        (node,) = self._pop(1)
        node.closed = True
        self.stack.append(_Node(self.vocabulary.persistent(node.value), node.size, node.depth))


def _printable(text: str) -> str:
    # The text comes from the file; as ASCII it is safe to print on any terminal.
    shown = text[:_LONGEST_NAME].encode("unicode_escape").decode("ascii")
    return shown if len(text) <= _LONGEST_NAME else shown + "…"


def _opcode_name(code: bytes) -> str:
    for opcode in pickletools.opcodes:
        if opcode.code == code.decode("latin1"):
            return f"the opcode {opcode.name}"
    return f"the unknown opcode {code!r}"


_BY_NAME: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine.protocol,
    "FRAME": _Machine.frame,
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"), _Machine.push),
    **dict.fromkeys(("FLOAT", "BINFLOAT"), _Machine.push),
    **dict.fromkeys(("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"), _Machine.push),
    **dict.fromkeys(("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"), _Machine.push),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "MARK": _Machine.mark,
    "TUPLE": _Machine.marked_tuple,
    "TUPLE1": lambda machine, _: machine.tuple_of(machine._pop(1)),
    "TUPLE2": lambda machine, _: machine.tuple_of(machine._pop(2)),
    "TUPLE3": lambda machine, _: machine.tuple_of(machine._pop(3)),
    "LIST": _Machine.marked_list,
    "DICT": _Machine.marked_dict,
    "APPEND": lambda machine, _: machine.extend(machine._pop(1)),
    "APPENDS": lambda machine, _: machine.extend(machine._pop_to_mark()),
    "SETITEM": lambda machine, _: machine.update(machine._pop(2)),
    "SETITEMS": lambda machine, _: machine.update(machine._pop_to_mark()),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    "MEMOIZE": _Machine.memoize,
    # GLOBAL's argument is "module name".
    "GLOBAL": lambda machine, text: machine.name(text.replace(" ", ".", 1)),
    "STACK_GLOBAL": _Machine.stack_name,
    "REDUCE": _Machine.construct,
    "NEWOBJ": _Machine.construct,  # a class in place of a function
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}
_OPCODES = {opcode.code.encode("latin1"): opcode for opcode in pickletools.opcodes if opcode.name in _BY_NAME}
_OPERATIONS = {code: _BY_NAME[opcode.name] for code, opcode in _OPCODES.items()}
_READERS: dict[bytes, Callable[[io.BytesIO], Any] | None] = {
    code: opcode.arg.reader if opcode.arg else None for code, opcode in _OPCODES.items()
}
