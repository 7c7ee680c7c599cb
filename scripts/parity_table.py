"""Measures the agreement with PyTorch and writes it into docs/parity.md, between its two markers.

python scripts/parity_table.py

Needs PyTorch, and for the second and third table the optional folders ../shared/parity and
../shared/real_silhouettes; without them it leaves the file unchanged.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
PAGE = ROOT / "docs" / "parity.md"
BEGIN, END = "<!-- begin of scripts/parity_table.py -->", "<!-- end of scripts/parity_table.py -->"

os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "parity")]

import measure  # noqa: E402 (it lives beside the tests)
import measure_losses  # noqa: E402 (likewise)

Errors = Mapping[str, float]


def table(columns: Mapping[str, Errors], tolerances: Errors) -> list[str]:
    """Returns the lines of a Markdown table, with a row per quantity and a column per model."""
    quantities = [name for name in tolerances if any(name in errors for errors in columns.values())]
    lines = [
        "| largest relative error | tolerance | " + " | ".join(columns) + " |",
        "|---|--:|" + "--:|" * len(columns),
    ]
    for name in quantities:
        cells = [f"{errors[name]:.1e}" if name in errors else "–" for errors in columns.values()]
        lines.append(f"| {name} | {tolerances[name]:.0e} | " + " | ".join(cells) + " |")
    return lines


def measure_all() -> list[str]:
    """Returns the lines of all tables."""
    parity, silhouettes = SHARED / "parity", SHARED / "real_silhouettes"
    random: dict[str, Errors] = {}
    reference: dict[str, Errors] = {}
    cosines = []
    for name in measure.VARIANTS:
        print(f"measuring {name}", file=sys.stderr)
        random[name] = measure.measure_test_mode(name) | measure.measure_training(name)
        in_test_mode = measure.measure_reference_test_mode(name, parity, silhouettes)
        reference[name] = in_test_mode | measure.measure_reference_training(name, parity, silhouettes)
        smallest, mean = measure.measure_bfloat16(name, parity, silhouettes)
        cosines.append(f"| {name} | {smallest:.6f} | {mean:.6f} |")
    losses: dict[str, Errors] = {}
    for dtype in ("float32", "float64"):
        losses |= {f"random, {dtype}": _without_suffix(measure_losses.measure_losses(dtype))}
        losses |= {
            f"reference, {dtype}": _without_suffix(measure_losses.measure_reference_losses(dtype, parity))
        }
    return [
        "### Models: our PyTorch modules, random inputs and weights",
        "",
        *table(random, measure.TOLERANCES),
        "",
        "### Models: OpenGait itself, real silhouettes",
        "",
        *table(reference, measure.TOLERANCES),
        "",
        "### Losses",
        "",
        "| largest relative error | " + " | ".join(losses) + " |",
        "|---|" + "--:|" * len(losses),
        *(
            f"| {name} | " + " | ".join(f"{errors[name]:.1e}" for errors in losses.values()) + " |"
            for name in ("losses", "gradients of losses")
        ),
        "",
        "### bfloat16: cosine to the float32 embedding, per sequence and part",
        "",
        "| model | smallest | mean |",
        "|---|--:|--:|",
        *cosines,
    ]


def _without_suffix(errors: Errors) -> dict[str, float]:
    return {name.removesuffix(" (float32)"): error for name, error in errors.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrites the page; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.parse_args(arguments)
    if not (SHARED / "parity").is_dir() or not (SHARED / "real_silhouettes").is_dir():
        print(f"error: needs {SHARED}/parity and real_silhouettes; {PAGE} is unchanged", file=sys.stderr)
        return 1
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + "\n".join([BEGIN, *measure_all(), END]) + after)
    print(f"written into {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
