"""Makes the documentation page of reproductions from their records."""

from collections.abc import Mapping, Sequence
from typing import Any

_HEAD = """\
# Reproductions

    mcl-jax reproduce casiab_mcl --root CASIA-B-pkl --out reproductions/casiab_mcl

checks the dataset, fetches the published weights, tests them by the dataset's protocol and compares the
figures with those that their authors print. This page is made from the records that it writes, by
`python scripts/reproductions.py`. To send one in, put your `reproduction.json` into `docs/reproductions/`; it
has no path or name of your machine.
"""
_EMPTY = """\
**There is no record yet.** Nobody has sent one in, and this project has none of the datasets: no published
figure has been measured with mcl_jax.
"""


def page(records: Sequence[Mapping[str, Any]]) -> str:
    """Returns docs/reproductions.md.

    Args:
        records: from `mcl_jax.reproduction.record.read_record`.
    """
    if not records:
        return f"{_HEAD}\n{_EMPTY}"
    lines = ["| run | figure | published | measured | difference | weights | device | mcl_jax | date |"]
    lines.append("|---" * 9 + "|")
    for record in sorted(records, key=lambda record: (record["name"], record["date"])):
        tail = [
            _kind(record["weights"]),
            " × ".join(map(_cell, record["device"][:2])),
            _cell(record["versions"].get("mcl_jax")),
            _cell(record["date"]),
        ]
        for row in record["figures"]:
            cells = (_cell(row[key]) for key in ("published", "measured", "difference"))
            name = f"{_cell(row['group'])} {_cell(row['figure'])}"
            lines.append("| " + " | ".join([_cell(record["name"]), name, *cells, *tail]) + " |")
    return f"{_HEAD}\n" + "\n".join(lines) + "\n"


def _kind(weights: Mapping[str, Any]) -> str:
    if weights["trained_here"]:
        return "trained here"
    return "published" if weights.get("published") is True else "other weights"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    text = f"{value:.2f}" if isinstance(value, float) else str(value)
    return " ".join(text.replace("|", "/").replace("<", "").replace("`", "").split())
