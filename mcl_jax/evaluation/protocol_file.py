"""Reads a user's own protocol from a JSON file: gallery conditions, probe conditions, figures."""

import json
import re
from pathlib import Path
from typing import Any, get_args, get_type_hints

from mcl_jax.errors import ConfigError
from mcl_jax.evaluation.protocols import PROBE_SET, THE_REST, Protocol, get_protocol
from mcl_jax.utils.files import read_bounded

SUFFIX = ".json"

_KEYS = ("title", "gallery", "probes", "blocks", "leave_out", "figures", "unmatched", "views", "unused")
_LARGEST = 1 << 20  # bytes
_FIGURE = re.compile(r"Rank-[1-9]\d{0,5}|mAP|mINP")


def find_protocol(name: str) -> Protocol:
    """Returns the protocol of this name, or that of a file if the name ends in .json.

    Raises:
        ConfigError: if there is none.
    """
    return read_protocol(Path(name)) if name.endswith(SUFFIX) else get_protocol(name)


def read_protocol(path: Path) -> Protocol:
    """Reads a protocol: the keys of `Protocol` that `_KEYS` lists; "gallery" and "probes" must be there.

    "gallery" is a list of conditions, ["*"] for all sequences, or null for all that are no probes; "probes"
    has for each group of figures its conditions, ["*"] for all, or null for those that the partition lists as
    PROBE_SET. A sequence that is both a probe and in the gallery does not meet itself.

    Raises:
        ConfigError: if it cannot be read, or has not the keys and values of a protocol.
    """
    try:
        content = json.loads(read_bounded(path, _LARGEST))
    except OSError as error:
        raise ConfigError(f"eval.protocol: {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"eval.protocol: {path}: is no JSON") from None
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
    settings: dict[str, Any] = {
        "gallery": _names("gallery", content["gallery"]) or THE_REST,
        "probes": {group: _names(f"probes.{group}", given) or PROBE_SET for group, given in probes.items()},
    }
    for key in ("figures", "views", "unused"):
        if key in content:
            settings[key] = _names(key, content[key])
    for figure in settings.get("figures") or ():
        if not _FIGURE.fullmatch(figure):
            raise ConfigError(f"figures: no {figure!r:.80}; there are Rank-1, Rank-5, …, mAP, mINP")
    for key in ("blocks", "leave_out", "unmatched"):
        if key in content:
            choices = get_args(get_type_hints(Protocol)[key])
            if content[key] not in choices:
                raise ConfigError(f"{key}: is {content[key]!r:.80}; choose one of {', '.join(choices)}")
            settings[key] = content[key]
    title = content.get("title", name)
    if not isinstance(title, str):
        raise ConfigError("title: must be a text")
    return Protocol(name=name, data=title, **settings)


def _names(key: str, given: Any) -> tuple[str, ...] | None:
    """Returns a list of names; None for null, which only some keys may be."""
    if given is None and (key in ("gallery", "views") or key.startswith("probes.")):
        return None
    if not isinstance(given, list) or not given or not all(isinstance(name, str) and name for name in given):
        raise ConfigError(f"{key}: is {given!r:.80}; expected a list of names")
    return tuple(given)
