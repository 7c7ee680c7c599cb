"""Lays out line charts by step as SVG: ticks, lines with gaps, steps and dots."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcl_jax.evaluation.colours import Look
from mcl_jax.utils.names import short_name

LEFT, TOP, RIGHT, BOTTOM = 56.0, 10.0, 392.0, 184.0  # of the frame, in a picture of 400 × 210

_MAX_POINTS = 500  # of a line; its pixels could not show more
_MAX_DOTS = 40  # a line with more points has no dots
_LOG_FROM = 99.9  # max / min from which the scale is logarithmic: 100, minus rounding to float32
_ROUNDING = 1e-6

Points = Sequence[tuple[int, float | None]]
"""Values by step; None or a value that is not finite makes a gap."""


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        key: its name in the file of points.
        name: its name in the legend; "" if the chart has only one line.
        points: its values.
        look: its colour and dash.
        stepped: whether each value holds since the previous step, like a schedule's.
        dotted: whether its points are marked with dots, if there are few.
    """

    key: str
    name: str
    points: Points
    look: Look
    stepped: bool = False
    dotted: bool = False
    known: list[tuple[int, float]] = field(init=False)

    def __post_init__(self) -> None:
        known = [(step, v) for step, v in self.points if v is not None and math.isfinite(v)]
        object.__setattr__(self, "known", known)

    def row(self) -> dict[str, str]:
        """Returns its last, minimum and maximum value as text, for a table."""
        values = [value for _, value in self.known]
        shown = [f"{v:.4g}" for v in (values[-1], min(values), max(values))] if values else ["n/a"] * 3
        return {"key": self.key} | dict(zip(("last", "low", "high"), shown, strict=True))


def chart(
    name: str, lines: Sequence[Line], end: int, restarts: Mapping[int, str], *, from_zero: bool = False
) -> dict[str, Any]:
    """Returns the data of a chart for the template.

    Args:
        name: heading of the chart.
        lines: at least one line.
        end: the last step; all charts of a page have the same axis of steps.
        restarts: step at which the run was restarted → text about it.
        from_zero: whether the axis of values starts at 0, so that small changes look small.
    """
    rows = [line.row() for line in lines]
    values = [value for line in lines for _, value in line.known]
    if not values:
        return {"name": name, "rows": rows, "lines": []}
    log = not from_zero and min(values) > 0 and max(values) >= _LOG_FROM * min(values)
    scale: Callable[[float], float] = math.log10 if log else float
    marks = (
        _decades(min(values), max(values)) if log else ticks(0.0 if from_zero else min(values), max(values))
    )
    low, high = scale(min(marks[0], *values)), scale(max(marks[-1], *values))

    def x(step: float) -> float:
        return LEFT + (RIGHT - LEFT) * step / max(end, 1)

    def y(value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (scale(value) - low) / (high - low)

    return {
        "name": name,
        "rows": rows,
        "log": log,
        "low": f"{min(values):.4g}",
        "high": f"{max(values):.4g}",
        "marks": [(round(y(mark), 1), f"{mark:.6g}") for mark in marks],
        "steps": [(round(x(step), 1), _short(step)) for step in ticks(0.0, float(end)) if step <= end],
        "restarts": [(round(x(float(step)), 1), text) for step, text in restarts.items()],
        "lines": [_drawn(line, x, y) for line in lines if line.known],
    }


def ticks(low: float, high: float, target: int = 5) -> list[float]:
    """Returns about `target` round numbers, at least two, from at or below `low` to at or above `high`."""
    if high <= low:
        room = abs(low) / 10 or 1.0
        low, high = low - room, high + room
    rough = (high - low) / (target - 1)
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low) + _ROUNDING), math.ceil(math.log10(high) - _ROUNDING)
    every = -(-(last - first) // 5)
    return [10.0**i for i in range(first, last + every, every)]


def _short(step: float) -> str:
    return f"{step / 1000:g}k" if step >= 10_000 else f"{step:g}"


def _drawn(line: Line, x: Callable[[float], float], y: Callable[[float], float]) -> dict[str, Any]:
    """Returns the polylines and dots of a line; a single value between gaps becomes a dot."""
    parts = [_thinned(part) for part in _parts(line.points)]
    dotted = line.dotted and len(line.known) <= _MAX_DOTS
    dots = line.known if dotted else [part[0] for part in parts if len(part) == 1]
    polylines = []
    for part in parts:
        corners = [(x(float(step)), y(value)) for step, value in part]
        if line.stepped:
            level = [(a[0], b[1]) for a, b in itertools.pairwise(corners)]
            corners = [
                corners[0],
                *(corner for pair in zip(level, corners[1:], strict=True) for corner in pair),
            ]
        polylines.append(" ".join(f"{a:.1f},{b:.1f}" for a, b in corners))
    return {
        "name": line.name,
        "short": short_name(line.name, 24),
        "last": line.row()["last"],
        "colour": line.look.colour,
        "dash": " ".join(f"{2 * length:g}" for length in line.look.dash),
        "polylines": [points for points, part in zip(polylines, parts, strict=True) if len(part) > 1],
        "dots": [
            (
                round(x(float(step)), 1),
                round(y(value), 1),
                f"{line.name} {value:.4g} at step {step:,}".strip(),
            )
            for step, value in dots
        ],
    }


def _parts(points: Points) -> list[list[tuple[int, float]]]:
    """Returns the stretches without gaps."""
    parts: list[list[tuple[int, float]]] = [[]]
    for step, value in points:
        if value is not None and math.isfinite(value):
            parts[-1].append((step, value))
        elif parts[-1]:
            parts.append([])
    return [part for part in parts if part]


def _thinned(part: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Keeps the first and last point, and minimum and maximum of each few others, so that no peak is lost."""
    if len(part) <= _MAX_POINTS:
        return part
    size = -(-len(part) // (_MAX_POINTS // 2))
    kept = {0, len(part) - 1}
    for start in range(0, len(part), size):
        few = range(start, min(start + size, len(part)))
        kept |= {min(few, key=lambda i: part[i][1]), max(few, key=lambda i: part[i][1])}
    return [part[i] for i in sorted(kept)]
