"""Modules of users: found beside a recipe, by name or by file, and imported for the entries they add."""

import importlib
import sys
from pathlib import Path

from mcl_jax.errors import ConfigError


def make_importable(folder: Path) -> None:
    """Puts a folder on `sys.path`, first, as Python does with the folder of a script."""
    place = str(folder.resolve())
    if place not in sys.path:
        sys.path.insert(0, place)


def import_own(name: str) -> None:
    """Imports a module that adds models, losses, datasets or protocols to the tables.

    Args:
        name: of a module that Python finds, or that lies in the current folder; or the path of its file.

    Raises:
        ConfigError: if there is no such module. What fails inside of it is raised as it is.
    """
    path = Path(name)
    if path.suffix == ".py":
        if not path.is_file():
            raise ConfigError(f"--import: no file {name!r}")
        make_importable(path.parent)
        name = path.stem
    else:
        make_importable(Path())
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # something that the module itself imports
        raise ConfigError(
            f"--import: no module {name!r} here or where Python looks; give its name, or the path of its file"
        ) from None
