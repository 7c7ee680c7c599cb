"""What the command lines share: absl flags with a config, and how a mistake ends."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import app, flags

from mcl_jax.errors import ConfigError, UserError


def parse_flags(argv: Sequence[str]) -> None:
    """Parses absl flags, config overrides among them.

    Raises:
        ConfigError: naming the flag or key that cannot work.
    """
    _check_config_file(argv)
    app.define_help_flags()
    try:
        flags.FLAGS(list(argv))
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        text = " ".join(str(error.args[0] if error.args else error).split())
        if (key := text.strip("\"'")).isidentifier():  # all that ml_collections says of a key it has not
            text = f"there is no config key {key!r}"
        raise ConfigError(f"command line: {text}") from None


def _check_config_file(argv: Sequence[str]) -> None:
    # Found only while parsing, a missing file would be a page of ml_collections' own tracebacks.
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = argument.partition("=")
        if name in ("--config", "-config"):
            path = value if equals else following
            if not Path(path).is_file():
                raise ConfigError(f"--config: no file {path!r}")


def exit_code(work: Callable[[], None]) -> int:
    """Runs a command and returns its exit code: 1, and one line on stderr, after a mistake of the user's."""
    try:
        work()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    return 0
