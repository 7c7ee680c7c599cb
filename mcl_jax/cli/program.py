"""The program `mcl-jax`: parses the command line, runs a command, and returns its exit code."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import mcl_jax
from mcl_jax.cli.commands import COMMANDS, command_module, help_line
from mcl_jax.cli.exit_code import exit_code, require_text, until_reader_leaves
from mcl_jax.utils.terminal import escaping_output, shortened

_DESCRIPTION = "Gait recognition in JAX: who is this person, from silhouettes of their walk."
_KEY = "--config."


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(shortened(message))


def main() -> None:
    """Runs the command that the process was started with."""
    # JAX with CUDA but without a driver prints several warnings from C++.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    with until_reader_leaves():
        code = run(sys.argv[1:])
    sys.exit(code)


@escaping_output()
def run(argv: Sequence[str]) -> int:
    """Runs a command; returns the exit code.

    Args:
        argv: the command and its flags.

    Raises:
        SystemExit: with code 0 after help, and 2 after flags that cannot be read.
    """
    parser = _parser()
    # All arguments after the command belong to it: `mcl-jax train --help` is the help of training.
    chosen = parser.parse_args(argv[:1] or ["--help"])
    return run_command(chosen.command, argv[1:])


@escaping_output()
def run_command(
    name: str, argv: Sequence[str], *, prog: str | None = None, description: str | None = None
) -> int:
    """Runs one command; returns the exit code.

    Args:
        name: an entry of `COMMANDS`.
        argv: its flags.
        prog: the program's name in the help; None for `mcl-jax NAME`.
        description: text of the help; None for the command's own text and examples.

    Raises:
        SystemExit: see `run`.
    """
    prog = prog or f"mcl-jax {name}"
    if code := _import_own(prog, argv):
        return code
    command = command_module(name)
    parser = _Parser(
        prog=prog,
        description=description or command.HELP[0].upper() + command.HELP[1:] + ".",
        epilog=None if description else f"examples:\n{command.EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_arguments(parser)
    _add_import(parser)
    arguments, rest = parser.parse_known_args(argv)
    keys, strange = _config_keys(rest)
    if not hasattr(arguments, "config_keys"):
        keys, strange = [], rest
    if strange:
        parser.error(f"unrecognized arguments: {' '.join(strange)}")
    if keys:
        arguments.config_keys = keys

    def work() -> None:
        require_text(argv)
        command.run(arguments)

    return exit_code(work)


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--import",
        dest="own_modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="module of your own, by name or file, with a model, loss or dataset to use",
    )


def _import_own(prog: str, argv: Sequence[str]) -> int:
    """Imports the modules of `--import`, before the flags are made that list what there is.

    Returns:
        The exit code; 0 where all went well.
    """
    parser = _Parser(prog=prog, add_help=False, allow_abbrev=False)
    _add_import(parser)
    modules = parser.parse_known_args(argv)[0].own_modules

    def work() -> None:
        from mcl_jax.utils.own_modules import import_own

        for module in modules:
            import_own(module)

    return exit_code(work) if modules else 0


def _parser() -> argparse.ArgumentParser:
    lines = [f"  {name:<12} {help_line(name)}" for name in COMMANDS]
    parser = _Parser(
        prog="mcl-jax",
        usage="mcl-jax COMMAND [flags]",
        description=_DESCRIPTION,
        epilog="\n".join(["commands:", *lines, "", "mcl-jax COMMAND --help shows its flags and examples."]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mcl_jax {mcl_jax.__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="a command from the list below")
    return parser


def _config_keys(rest: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits arguments into config keys, each as `--config.a.b=v`, and all others."""
    keys: list[str] = []
    strange: list[str] = []
    for argument in rest:
        if argument.startswith(_KEY):
            keys.append(argument)
        elif keys and "=" not in keys[-1]:
            keys[-1] += f"={argument}"
        else:
            strange.append(argument)
    return keys, strange
