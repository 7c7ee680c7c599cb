"""Measures the agreement with PyTorch and writes it into docs/parity.md, between its two markers.

    python scripts/parity_table.py                    # everything
    python scripts/parity_table.py --models swingait  # the columns of some models; the rest stays

Needs PyTorch, and the optional folders ../shared/parity and ../shared/real_silhouettes; without them it
leaves the file unchanged.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
PAGE = ROOT / "docs" / "parity.md"
CORNER, TOLERANCE = "largest relative error", "tolerance"
BEGIN, END = "<!-- begin of scripts/parity_table.py -->", "<!-- end of scripts/parity_table.py -->"

os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "parity")]

import jax_side  # noqa: E402 (it lives beside the tests)
import measure  # noqa: E402 (likewise)
import measure_losses  # noqa: E402 (likewise)

RANDOM = "Models: our PyTorch modules, random inputs and weights"
REFERENCE = "Models: OpenGait itself, real silhouettes"
LOSSES = "Losses"
COSINES = "bfloat16: cosine to the float32 embedding, per sequence and part"

Columns = dict[str, dict[str, str]]
"""Name of a column of a table → name of a row → text of the cell."""


def read_tables(page: str) -> dict[str, Columns]:
    """Returns the tables of a page by their headings."""
    tables = {}
    for section in page.split("\n### ")[1:]:
        heading, *lines = section.splitlines()
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line[:1] == "|"]
        if rows:
            (_, *names), _, *rest = rows
            tables[heading] = {
                name: {row[0]: row[i] for row in rest if row[i] != "–"} for i, name in enumerate(names, 1)
            }
    return tables


def table(corner: str, columns: Columns, rows: Iterable[str]) -> list[str]:
    """Returns the lines of a Markdown table with the rows that have a cell."""
    there = [row for row in rows if any(row in cells for name, cells in columns.items() if name != TOLERANCE)]
    return [
        f"| {corner} | " + " | ".join(columns) + " |",
        "|---|" + "--:|" * len(columns),
        *(
            f"| {row} | " + " | ".join(cells.get(row, "–") for cells in columns.values()) + " |"
            for row in there
        ),
    ]


def measure_models(names: Sequence[str]) -> dict[str, Columns]:
    """Returns the tables of some models; that of cosines has a column for each model."""
    parity, silhouettes = SHARED / "parity", SHARED / "real_silhouettes"
    tables: dict[str, Columns] = {RANDOM: {}, REFERENCE: {}, COSINES: {}}
    for name in names:
        print(f"measuring {name}", file=sys.stderr)
        like = measure.NARROW.get(name, name)
        random = measure.measure_test_mode(like) | measure.measure_training(like)
        reference = measure.measure_reference_test_mode(name, parity, silhouettes)
        reference |= measure.measure_reference_training(name, parity, silhouettes)
        smallest, mean = measure.measure_bfloat16(name, parity, silhouettes)
        tables[RANDOM][name], tables[REFERENCE][name] = _texts(random), _texts(reference)
        tables[COSINES][name] = {"smallest": f"{smallest:.6f}", "mean": f"{mean:.6f}"}
    return tables


def measure_all_losses() -> Columns:
    """Returns the table of losses."""
    columns = {}
    for dtype in ("float32", "float64"):
        columns[f"random, {dtype}"] = _texts(measure_losses.measure_losses(dtype))
        errors = measure_losses.measure_reference_losses(dtype, SHARED / "parity")
        columns[f"reference, {dtype}"] = _texts(errors)
    return {name: _without_suffix(cells) for name, cells in columns.items()}


def lines_of(tables: Mapping[str, Columns]) -> list[str]:
    """Returns the lines of all tables."""
    lines = []
    tolerances = {TOLERANCE: {name: f"{value:.0e}" for name, value in measure.TOLERANCES.items()}}
    for heading in (RANDOM, REFERENCE):
        columns = tolerances | {n: tables[heading][n] for n in measure.VARIANTS if n in tables[heading]}
        lines += [f"### {heading}", "", *table(CORNER, columns, measure.TOLERANCES), ""]
    lines += [f"### {LOSSES}", "", *table(CORNER, tables[LOSSES], ("losses", "gradients of losses")), ""]
    cosines = tables[COSINES]
    turned = {key: {n: cosines[n][key] for n in cosines} for key in ("smallest", "mean")}
    return [
        *lines,
        f"### {COSINES}",
        "",
        *table("model", turned, [n for n in measure.VARIANTS if n in cosines]),
    ]


def _texts(errors: Mapping[str, float]) -> dict[str, str]:
    return {name: f"{error:.1e}" for name, error in errors.items()}


def _without_suffix(cells: Mapping[str, str]) -> dict[str, str]:
    return {name.removesuffix(" (float32)"): cell for name, cell in cells.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrites the page; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=measure.VARIANTS, help="all, unless given")
    models = parser.parse_args(arguments).models
    if not (SHARED / "parity").is_dir() or not (SHARED / "real_silhouettes").is_dir():
        print(f"error: needs {SHARED}/parity and real_silhouettes; {PAGE} is unchanged", file=sys.stderr)
        return 1
    jax_side.OPTIONS["float64"] = jax_side.CHEAP  # as in the tests
    before, _, rest = PAGE.read_text().partition(BEGIN)
    kept, _, after = rest.partition(END)
    tables = read_tables(kept) if models else {}
    if models:
        turned = tables[COSINES]
        tables[COSINES] = {n: {key: turned[key][n] for key in turned} for n in turned["mean"]}
    else:
        tables[LOSSES] = measure_all_losses()
    for heading, columns in measure_models(models or list(measure.VARIANTS)).items():
        tables[heading] = tables.get(heading, {}) | columns
    PAGE.write_text(before + "\n".join([BEGIN, *lines_of(tables), END]) + after)
    print(f"written into {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
