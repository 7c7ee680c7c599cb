"""What the command lines share: absl flags with a config, and how a mistake ends."""

import ast
import contextlib
import signal
import sys
from collections.abc import Callable, Sequence

from absl import app, flags

from mcl_jax.config import recipe_path
from mcl_jax.errors import ConfigError, UserError
from mcl_jax.leaving import LeavingError


def parse_flags(argv: Sequence[str]) -> None:
    """Parses absl flags, config overrides among them.

    Raises:
        ConfigError: naming the flag or key that cannot work.
    """
    arguments = _with_recipe_paths(argv)
    app.define_help_flags()
    try:
        flags.FLAGS(arguments)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"command line: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    text = str(error.args[0] if error.args else error)
    # Of a key it has not, ml_collections gives the repr of its name, of which it may give the repr once more.
    with contextlib.suppress(ValueError, SyntaxError):
        text = str(ast.literal_eval(text))
    name, *hints = text.splitlines() or [""]
    if name.strip("'").isidentifier():
        name = "there is no config key " + repr(name.strip("'")) + "." * bool(hints)
    return " ".join([name, *hints])


def _with_recipe_paths(argv: Sequence[str]) -> list[str]:
    """Returns the arguments with the path of a recipe in the place of its name.

    Raises:
        ConfigError: if there is no such recipe; found only while parsing, that would be a page of
            ml_collections' own tracebacks.
    """
    arguments = list(argv)
    for i, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in ("--config", "-config"):
            if equals:
                arguments[i] = f"{name}={recipe_path(value)}"
            elif i + 1 < len(arguments):
                arguments[i + 1] = str(recipe_path(arguments[i + 1]))
    return arguments


def exit_code(work: Callable[[], None]) -> int:
    """Runs a command; returns its exit code: 1, and one line, after a mistake; `leaving` has others."""
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # see `quietly_while_importing`
        work()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except LeavingError as error:
        print(error, file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    return 0
