"""The pickle inside a PyTorch checkpoint, read without running it.

A pickle is a program for a small stack machine, and Python's own machine calls whatever functions the
program names. This one knows only the opcodes that plain values and tensors need, and never looks a name up:
a name on the allow-list stands for one of the few constructions below, any other ends the reading.
"""

import io
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mcl_jax.errors import CheckpointError


@dataclass(frozen=True)
class TensorSpec:
    """A tensor as the pickle describes it, nothing of which has been checked.

    Attributes:
        storage: the persistent id of the storage that holds the values.
        offset: first element.
        shape: claimed size of each axis.
        strides: elements to step along each axis.
    """

    storage: Any
    offset: Any
    shape: Any
    strides: Any


@dataclass(frozen=True)
class _Name:
    """A module-level name of the pickle, as text."""

    text: str


class _Mark:
    """Where the operands of an opcode begin on the stack."""


_PAIRS = ("collections.OrderedDict", "collections.Counter")
_TENSORS = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor")
_PARAMETER = "torch._utils._rebuild_parameter"


def load_pickle(
    data: bytes, *, storage_types: frozenset[str], make_tensor: Callable[[TensorSpec], Any]
) -> Any:
    """Reads a pickle of plain values, dicts, lists, tuples and tensors.

    Args:
        data: the pickle, protocols 2 to 5.
        storage_types: names like "torch.FloatStorage" that a persistent id may contain; they are returned
            as text.
        make_tensor: builds what stands for a tensor.

    Returns:
        The unpickled value; ordered dicts and counters become dicts.

    Raises:
        CheckpointError: the pickle is damaged or wants anything that is not on the allow-list.
    """
    machine = _Machine(storage_types, make_tensor)
    try:
        for opcode, argument, _ in pickletools.genops(io.BytesIO(data)):
            if opcode.name == "STOP":
                return machine.result()
            machine.execute(opcode.name, argument)
    # Hostile programs fail in as many ways as there are opcodes; all mean the same to the user.
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"its pickle is damaged ({type(error).__name__})") from error
    raise CheckpointError("its pickle is damaged (it has no end)")


class _Machine:
    """The stack machine. Every method pops its operands off the stack and pushes its result."""

    def __init__(self, storage_types: frozenset[str], make_tensor: Callable[[TensorSpec], Any]):
        self.storage_types = storage_types
        self.make_tensor = make_tensor
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.operations: dict[str, Callable[[Any], object]] = {
            **dict.fromkeys(("PROTO", "FRAME"), lambda _: None),
            **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), self.stack.append),
            **dict.fromkeys(
                ("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"), self.stack.append
            ),
            **dict.fromkeys(("BINPUT", "LONG_BINPUT"), self._remember),
            **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda index: self.stack.append(self.memo[index])),
            "MEMOIZE": lambda _: self._remember(len(self.memo)),
            "NONE": lambda _: self.stack.append(None),
            "NEWTRUE": lambda _: self.stack.append(True),
            "NEWFALSE": lambda _: self.stack.append(False),
            "EMPTY_DICT": lambda _: self.stack.append({}),
            "EMPTY_LIST": lambda _: self.stack.append([]),
            "EMPTY_TUPLE": lambda _: self.stack.append(()),
            "MARK": lambda _: self.stack.append(_Mark()),
            "TUPLE": lambda _: self.stack.append(tuple(self._pop_to_mark())),
            "TUPLE1": lambda _: self.stack.append(self._pop(1)),
            "TUPLE2": lambda _: self.stack.append(self._pop(2)),
            "TUPLE3": lambda _: self.stack.append(self._pop(3)),
            "APPEND": lambda _: self._extend(self._pop(1)),
            "APPENDS": lambda _: self._extend(self._pop_to_mark()),
            "SETITEM": lambda _: self._update(self._pop(2)),
            "SETITEMS": lambda _: self._update(self._pop_to_mark()),
            # GLOBAL's argument is "module name".
            "GLOBAL": lambda text: self._name(*text.split(" ", 1)),
            "STACK_GLOBAL": lambda _: self._name(*self._pop(2)),
            "REDUCE": lambda _: self._construct(*self._pop(2)),
            # Attributes (PyTorch hangs `_metadata` on its dicts) are dropped.
            "BUILD": lambda _: self._pop(1),
            "BINPERSID": lambda _: self._persistent_id(*self._pop(1)),
        }

    def execute(self, opcode: str, argument: Any) -> None:
        if opcode not in self.operations:
            raise CheckpointError(f"its pickle uses {opcode}, which no checkpoint needs; refused")
        self.operations[opcode](argument)

    def result(self) -> Any:
        (value,) = self.stack
        if isinstance(value, _Mark):
            raise ValueError("a mark is no value")
        return value

    def _pop(self, count: int) -> tuple[Any, ...]:
        if len(self.stack) < count:
            raise IndexError("stack underflow")
        values = tuple(self.stack[-count:])
        del self.stack[-count:]
        return values

    def _pop_to_mark(self) -> list[Any]:
        values = []
        while not isinstance(value := self.stack.pop(), _Mark):
            values.append(value)
        return values[::-1]

    def _remember(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def _extend(self, values: Any) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise TypeError("no list to append to")
        target.extend(values)

    def _update(self, values: Any) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(values) % 2:
            raise TypeError("no dict to set items of")
        keys = values[::2]
        # Hashing tuples that are nested deep enough would end the process.
        if not all(isinstance(key, str | int) for key in keys):
            raise TypeError("no key")
        target.update(zip(keys, values[1::2], strict=True))

    def _name(self, module: str, name: str) -> None:
        text = f"{module}.{name}"
        if text not in (*_PAIRS, *_TENSORS, _PARAMETER, *self.storage_types):
            raise CheckpointError(
                f"its pickle names {text}, which is not plain data; refused, nothing was run"
            )
        self.stack.append(_Name(text))

    def _construct(self, function: Any, arguments: Any) -> None:
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise TypeError("no construction")
        if function.text in _PAIRS:
            (content,) = arguments or ({},)
            if not isinstance(content, dict):
                raise TypeError("no dict to copy")
            self.stack.append(dict(content))
        elif function.text in _TENSORS:
            self.stack.append(self.make_tensor(TensorSpec(*arguments[:4])))
        elif function.text == _PARAMETER:
            self.stack.append(arguments[0])
        else:
            raise TypeError("a storage type is no function")

    def _persistent_id(self, value: Any) -> None:
        # ("storage", type, key, location, elements): the type becomes text, so that names stay in here.
        kind, storage_type, *rest = value
        if kind != "storage" or not isinstance(storage_type, _Name):
            raise TypeError("no storage")
        self.stack.append((kind, storage_type.text, *rest))
