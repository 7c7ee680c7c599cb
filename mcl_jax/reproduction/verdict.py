"""Compares measured figures with the published ones, and lists usual reasons for a difference."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from mcl_jax.utils.terminal import count

TOLERANCE = 0.3
"""Percentage points by which a reproduced figure may differ, because of rounding and the machine."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure, in %; `measured` is None if it was not measured."""

    group: str
    figure: str
    published: float
    measured: float | None

    @property
    def difference(self) -> float | None:
        """Measured minus published; None if it was not measured."""
        return None if self.measured is None else self.measured - self.published

    @property
    def agrees(self) -> bool:
        """Whether the difference, rounded to hundredths as in the table, is within the tolerance."""
        return self.difference is not None and abs(round(self.difference, 2)) <= TOLERANCE


def compare(
    published: Mapping[str, Mapping[str, float]], scores: Mapping[str, Mapping[str, float | None]]
) -> list[Row]:
    """Returns a row for each published figure; one of a group without probes, NaN, was not measured."""
    rows = []
    for group, figures in published.items():
        for figure, value in figures.items():
            measured = scores.get(group, {}).get(figure)
            if measured is not None:
                measured = None if math.isnan(measured) else float(measured)
            rows.append(Row(group, figure, value, measured))
    return rows


def verdict(rows: Sequence[Row]) -> tuple[bool | None, str]:
    """Returns whether a run is reproduced (None if unknown), and the verdict as a sentence."""
    if not rows:
        return None, "No figure of this run is published, so there is nothing to compare with."
    if any(row.measured is None for row in rows):
        return None, "Not all published figures were measured here."
    apart = [row for row in rows if not row.agrees]
    if not apart:
        return True, f"Reproduced: every figure is within {TOLERANCE} points of the published one."
    worst = max(apart, key=lambda row: abs(row.difference or 0.0))
    side = "above" if (worst.difference or 0.0) > 0 else "below"
    verb = "differs" if len(apart) == 1 else "differ"
    return False, (
        f"Not reproduced: {len(apart)} of {count(len(rows), 'figure')} {verb} by more than {TOLERANCE} "
        f"points; {worst.group} {worst.figure} is {abs(worst.difference or 0.0):.2f} {side} the published "
        "one."
    )


def usual_reasons(
    differences: Sequence[str], *, unreadable: int, partition: bool, other_embedding: bool, precision: str
) -> list[str]:
    """Returns the usual reasons for such a difference, most likely first.

    Args:
        differences: differences of the dataset from the published facts.
        unreadable: number of sequences that could not be read.
        partition: whether the user gave a partition file.
        other_embedding: whether the model has another embedding, `use_emb2`.
        precision: precision of the backbone.
    """
    reasons = [f"the dataset is not as published: {line}" for line in differences]
    if unreadable:
        reasons.append(f"{count(unreadable, 'sequence')} could not be read")
    reasons.append(
        "another preparation: `mcl-jax prepare` cuts and scales silhouettes as for the published runs"
    )
    if partition:
        reasons.append("another split: the partition JSON must be the published one")
    if other_embedding:
        reasons.append("the other embedding: --config.model.use_emb2=True scores the BNNeck feature")
    if precision != "float32":
        reasons.append(f"{precision}: --config.eval.precision=float32 is exact")
    return reasons


def table(rows: Sequence[Row]) -> str:
    """Returns an aligned text table with published, measured and difference of each figure."""
    lines = [("", "published", "measured", "difference")]
    for row in rows:
        measured = "-" if row.measured is None else f"{row.measured:.2f}"
        difference = "-" if row.difference is None else f"{row.difference:+.2f}"
        lines.append((f"{row.group} {row.figure}", f"{row.published:.2f}", measured, difference))
    width = max(len(line[0]) for line in lines)
    return "\n".join(line[0].ljust(width) + "".join(cell.rjust(12) for cell in line[1:]) for line in lines)
