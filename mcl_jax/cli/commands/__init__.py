"""The commands of `mcl-jax`, one module each; a command is imported only when it runs.

A module has `HELP`, one line in lower case; `EXAMPLES`, indented lines; `add_arguments(parser)`; and
`run(arguments)`. A command that takes the keys of a config sets the default `config_keys`; see `cli`.
"""

import ast
import importlib
from pathlib import Path
from types import ModuleType

COMMANDS = (
    "train",
    "test",
    "checkpoints",
    "silhouettes",
    "prepare",
    "score",
    "convert",
    "pretrained",
    "reproduce",
    "config",
    "describe",
    "export",
    "enroll",
    "identify",
    "compare",
    "gallery",
    "serve",
    "check",
    "walkers",
    "demo",
)
"""Names of the commands and of their modules, in the order of the help."""


def command_module(name: str) -> ModuleType:
    """Imports the module of a command of `COMMANDS`."""
    return importlib.import_module(f"{__name__}.{name}")


def help_line(name: str) -> str:
    """Returns `HELP` of a command without importing its module, which takes seconds."""
    source = (Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "HELP":
            return str(ast.literal_eval(node.value))
    raise LookupError(f"{name} has no HELP")
