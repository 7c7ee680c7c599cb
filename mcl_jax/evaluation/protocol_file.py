"""Reads a user's own protocol from a JSON file."""

import json
import re
from pathlib import Path
from typing import Any, get_args, get_type_hints

from mcl_jax.errors import ConfigError
from mcl_jax.evaluation.protocols import PROBE_SET, THE_REST, Choice, Chosen, Protocol, get_protocol
from mcl_jax.utils.files import read_bounded

SUFFIX = ".json"

_KEYS = (
    *("title", "gallery", "probes", "blocks", "leave_out", "figures", "unmatched", "views", "view_ends"),
    *("unused", "mean"),
)
_LONGEST_NAME = 100
_MAX_BYTES = 1 << 20
_FIGURE = re.compile(r"Rank-[1-9]\d{0,5}|mAP|mINP")


def find_protocol(name: str) -> Protocol:
    """Returns the protocol with this name, or reads it from a file if the name ends in .json.

    Raises:
        ConfigError: if there is none.
    """
    return read_protocol(Path(name)) if name.endswith(SUFFIX) else get_protocol(name)


def read_protocol(path: Path) -> Protocol:
    """Reads a protocol file with keys of `Protocol`; `_KEYS` lists them, "gallery" and "probes" are required.

    "gallery" is a list of conditions, ["*"] for all sequences, null for all except the probes, or an object
    with one of these for each group. "probes" is an object with the conditions of each group, ["*"] for all,
    or null for the PROBE_SET of the partition. Instead of conditions, both accept the name of a list of the
    partition, or EVERY_OTHER. A sequence is never compared with itself.

    Raises:
        ConfigError: if the file cannot be read, or has other keys or values.
    """
    try:
        content = json.loads(read_bounded(path, _MAX_BYTES))
    except OSError as error:
        raise ConfigError(f"eval.protocol: {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"eval.protocol: {path}: is not a JSON file") from None
    if not isinstance(content, dict):
        raise ConfigError(f"eval.protocol: {path}: must be an object with {', '.join(_KEYS)}")
    try:
        return _protocol(content, path.stem)
    except ConfigError as error:
        raise ConfigError(f"eval.protocol: {path}: {error}") from None


def _protocol(content: dict[str, Any], name: str) -> Protocol:
    if unknown := [key for key in content if key not in _KEYS]:
        raise ConfigError(f"no key {unknown[0]!r:.80}; there are {', '.join(_KEYS)}")
    if missing := [key for key in ("gallery", "probes") if key not in content]:
        raise ConfigError(f"{missing[0]}: is missing")
    probes = content["probes"]
    if not isinstance(probes, dict) or not probes:
        raise ConfigError('probes: must be an object such as {"night": ["night-01"]}')
    gallery = content["gallery"]
    for group in (*probes, *(gallery if isinstance(gallery, dict) else ())):
        if not 0 < len(group) <= _LONGEST_NAME:  # it is shown in tables, pictures and errors
            raise ConfigError(f"group {group!r:.80}: a name has 1 to {_LONGEST_NAME} characters")
    settings: dict[str, Any] = {
        "gallery": {group: _choice(f"gallery.{group}", given, THE_REST) for group, given in gallery.items()}
        if isinstance(gallery, dict)
        else _choice("gallery", gallery, THE_REST),
        "probes": {group: _choice(f"probes.{group}", given, PROBE_SET) for group, given in probes.items()},
    }
    for key in ("figures", "views", "unused"):
        if key in content:
            settings[key] = None if key == "views" and content[key] is None else _names(key, content[key])
    for figure in settings.get("figures") or ():
        if not _FIGURE.fullmatch(figure):
            raise ConfigError(f"figures: no {figure!r:.80}; there are Rank-1, Rank-5, …, mAP, mINP")
    for key in ("blocks", "leave_out", "unmatched"):
        if key in content:
            choices = get_args(get_type_hints(Protocol)[key])
            if content[key] not in choices:
                raise ConfigError(f"{key}: is {content[key]!r:.80}; choose one of {', '.join(choices)}")
            settings[key] = content[key]
    for key, kind in (("view_ends", str), ("mean", bool)):
        if key in content:
            if not isinstance(content[key], kind):
                raise ConfigError(f"{key}: must be {'a text' if kind is str else 'true or false'}")
            settings[key] = content[key]
    title = content.get("title", name)
    if not isinstance(title, str) or ("title" in content and len(title) > _LONGEST_NAME):
        raise ConfigError(f"title: must be a text of at most {_LONGEST_NAME} characters")
    return Protocol(name=name, data=title, **settings)


def _choice(key: str, given: Any, if_null: Chosen) -> Choice:
    """Returns the choice that a list of conditions, the name of a list, or null stands for."""
    if given is None:
        return if_null
    if isinstance(given, str) and given in Chosen.__members__:
        return Chosen[given]
    return _names(key, given)


def _names(key: str, given: Any) -> tuple[str, ...]:
    if not isinstance(given, list) or not given or not all(isinstance(name, str) and name for name in given):
        raise ConfigError(f"{key}: is {given!r:.80}; expected a list of names")
    return tuple(given)
