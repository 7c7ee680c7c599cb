"""Checks config keys against the signature of the function that takes them.

A config names a model, loss, optimiser or schedule, and the keys beside the name are its arguments. The
signature says which arguments exist, and its annotations which values they take:
`Annotated[int, AtLeast(1)]`, `Annotated[Sequence[int], Sizes(4)]`, `Literal["2d", "3d"]`, or a plain type.

Written by hand, because users need one line that names the key, and pydantic prints a page.
"""

import inspect
import sys
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from mcl_jax.errors import ConfigError


@dataclass(frozen=True)
class AtLeast:
    """A number that is not below `least`, and below `below` if that is given."""

    least: float
    below: float | None = None


@dataclass(frozen=True)
class Sizes:
    """Positive whole numbers up to `most`: `count` of them, or any number up to 1,000 for None."""

    count: int | None = None
    most: int = 2**31 - 1


PositiveInt = Annotated[int, AtLeast(1)]
NotNegative = Annotated[float, AtLeast(0)]
ShareBelowOne = Annotated[float, AtLeast(0, below=1)]


_MOST = 2**31 - 1
_MOST_SIZES = 1_000
_SHOWN = 60  # characters of a value


def brief(value: Any) -> str:
    """Returns a value as text for a message, without the middle if it is very long."""
    try:
        text = str(value)
    except ValueError:  # Python refuses to print integers of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}…{text[-_SHOWN // 4 :]}"


def config_arguments(function: Callable[..., Any], provided: Collection[str]) -> dict[str, Any]:
    """Returns the arguments that a config may set, with their defaults, or `inspect.Parameter.empty`.

    Args:
        function: a function, or a class, which stands for its constructor.
        provided: arguments that the program gives, such as arrays.
    """
    target = function.__init__ if inspect.isclass(function) else function
    return {
        name: parameter.default
        for name, parameter in inspect.signature(target).parameters.items()
        if name not in {"self", *provided}
    }


def required_arguments(function: Callable[..., Any], provided: Collection[str]) -> list[str]:
    """Returns the arguments that a config must set: those of `config_arguments` without a default."""
    known = config_arguments(function, provided)
    return [name for name, default in known.items() if default is inspect.Parameter.empty]


def with_defaults(
    block: str, name: str, function: Callable[..., Any], given: Mapping[str, Any], provided: Collection[str]
) -> dict[str, Any]:
    """Returns all arguments of a function that a config sets: the given values, and defaults for the rest.

    Args:
        block: where in the config, for messages.
        name: of the function, for messages.
        function: the function or class.
        given: the values that are given.
        provided: arguments that the program gives.

    Raises:
        ConfigError: if an argument is unknown to the function, or missing.
    """
    known = config_arguments(function, provided)
    for key in given:
        if key not in known:
            there_are = f"it has {', '.join(known)}" if known else "it has none"
            raise ConfigError(f"{block}.{key}: {name} has no such argument; {there_are}")
    arguments = known | dict(given)
    for key, value in arguments.items():
        if value is inspect.Parameter.empty:
            raise ConfigError(f"{block}.{key}: {name} needs this argument, which has no default")
    return arguments


def check_arguments(
    block: str, name: str, function: Callable[..., Any], given: Mapping[str, Any], provided: Collection[str]
) -> None:
    """Checks the arguments that a config gives to a function against its signature.

    Args:
        block: where in the config, for messages.
        name: of the function, for messages.
        function: the function or class.
        given: the values, all of them.
        provided: arguments that the program gives.

    Raises:
        ConfigError: naming the first key that is unknown, missing, or has an invalid value.
    """
    target = function.__init__ if inspect.isclass(function) else function
    hints = typing.get_type_hints(target, include_extras=True)
    for key, value in with_defaults(block, name, function, given, provided).items():
        wanted = _mismatch(value, hints.get(key, Any))
        if wanted is not None:
            raise ConfigError(f"{block}.{key}: is {brief(value)}; {wanted}")


def lookup(block: str, table: Mapping[str, Any], name: str) -> Any:
    """Returns an entry of a table of names.

    Raises:
        ConfigError: if there is no such entry; the message lists the names.
    """
    if name not in table:
        raise ConfigError(f"{block}: no {name!r}; there are {', '.join(filter(None, table))}")
    return table[name]


def _mismatch(value: Any, hint: Any) -> str | None:
    """Returns the expected kind of a value, or None if the value fits."""
    rules = getattr(hint, "__metadata__", ())
    plain = typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint
    for rule in rules:
        if isinstance(rule, Sizes):
            return _sizes_mismatch(value, rule)
    if typing.get_origin(plain) is Literal:
        choices = typing.get_args(plain)
        return None if value in choices else f"there are {', '.join(map(str, choices))}"
    if plain in (int, float, bool, str) and not _is_a(value, plain):
        kinds = {int: "a whole number", float: "a number", bool: "True or False", str: "text"}
        return f"expected {kinds[plain]}"
    if plain in (int, float) and not abs(value) <= (_MOST if plain is int else sys.float_info.max):
        return f"must be at most {_MOST:,}" if plain is int else "expected a finite number"
    for rule in rules:
        if isinstance(rule, AtLeast):
            if not value >= rule.least:
                return "must not be negative" if rule.least == 0 else f"must be at least {rule.least}"
            if rule.below is not None and not value < rule.below:
                return f"must be below {rule.below}"
    return None


def _is_a(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is kind


def _sizes_mismatch(value: Any, rule: Sizes) -> str | None:
    fits = isinstance(value, Sequence) and all(type(n) is int and n > 0 for n in value)
    if fits and rule.count in (None, len(value)):
        if len(value) > _MOST_SIZES:
            return f"expected at most {_MOST_SIZES:,} numbers"
        return f"must be at most {rule.most:,}" if max(value, default=1) > rule.most else None
    return f"expected {'' if rule.count is None else f'{rule.count} '}positive whole numbers"
