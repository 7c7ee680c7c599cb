"""`mcl-jax pretrained`: the published checkpoints that can be asked for by name."""

import argparse
import json
from typing import Any

from absl import logging

from mcl_jax.errors import ConfigError
from mcl_jax.hub.fetch import fetch, is_here
from mcl_jax.hub.published import PUBLISHED, Published, nearest_names

HELP = "list the published checkpoints that can be loaded by name, or fetch some"

EXAMPLES = """\
  mcl-jax pretrained                          # lists them, downloads nothing
  mcl-jax pretrained gait3d_mcl               # shows everything known about one
  mcl-jax pretrained --fetch gait3d_mcl       # downloads one, for use without network
"""

_MEGABYTE = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument("--fetch", action="store_true", help="download the named checkpoints")
    parser.add_argument("--json", action="store_true", help="print one JSON object per checkpoint")
    parser.add_argument("names", nargs="*", metavar="NAME", help="name of a recipe (all)")


def run(arguments: argparse.Namespace) -> None:
    """Lists, describes or fetches them.

    Raises:
        UserError: if a name is unknown, or a file cannot be fetched.
    """
    entries = [_entry(name) for name in arguments.names]
    if arguments.fetch:
        if not entries:
            raise ConfigError("--fetch: give the names of the checkpoints to download")
        logging.set_verbosity(logging.INFO)
        for entry in entries:
            print(f"{entry.recipe}: {fetch(entry.file, entry.sha256)}", flush=True)
    elif arguments.json:
        for entry in entries or PUBLISHED.values():
            print(json.dumps(_facts(entry), ensure_ascii=False))
    elif entries:
        print("\n\n".join(_description(entry) for entry in entries))
    else:
        print(_table())


def figures_text(entry: Published) -> str:
    """Returns the published figures in a few words: "NM 98.2, BG 94.0, CL 77.6"."""
    several = len(entry.figures) > 1
    return ", ".join(
        f"{group if several else figure} {value}"
        for group, figures in entry.figures.items()
        for figure, value in figures.items()
    )


def _entry(name: str) -> Published:
    if name not in PUBLISHED:
        near = ", ".join(nearest_names(name))
        raise ConfigError(
            f"no checkpoint {name!r} is published where we know it; "
            + (f"the nearest names: {near}" if near else "`mcl-jax pretrained` lists the names")
        )
    return PUBLISHED[name]


def _facts(entry: Published) -> dict[str, Any]:
    return {
        "name": entry.recipe,
        "dataset": entry.dataset,
        "published": entry.figures,
        "bytes": entry.bytes or None,
        "source": str(entry.file),
        "address": entry.file.address,
        "sha256": entry.sha256 or None,
        "licence": entry.licence,
        "note": entry.note,
        "here": is_here(entry.file),
    }


def _size(entry: Published) -> str:
    return f"{entry.bytes / _MEGABYTE:.0f} MB" if entry.bytes else "?"


def _description(entry: Published) -> str:
    figures = figures_text(entry)
    facts = _facts(entry) | {
        "published": f"{figures}; as its authors print it, not measured here" if figures else "",
        "bytes": f"{entry.bytes:,}" if entry.bytes else "not known",
        "sha256": entry.sha256 or "not known before the first download",
        "here": "yes" if is_here(entry.file) else "no",
    }
    return "\n".join(f"{key:<10} {value}" for key, value in facts.items() if value)


def _table() -> str:
    rows = [("name", "dataset", "published", "size", "here", "source")]
    rows += [
        (
            entry.recipe,
            entry.dataset,
            figures_text(entry) or "-",
            _size(entry),
            "yes" if is_here(entry.file) else "no",
            entry.file.repository,
        )
        for entry in PUBLISHED.values()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    notes = [f"{entry.recipe}: {entry.note}" for entry in PUBLISHED.values() if entry.note]
    licences = dict.fromkeys(entry.licence for entry in PUBLISHED.values())
    return "\n".join(
        [
            *(line.rstrip() for line in lines),
            "",
            "Published: rank-1 in % unless it says otherwise, as the authors print it; not measured here.",
            *(f"Licence: {licence}." for licence in licences),
            *notes,
        ]
    )
