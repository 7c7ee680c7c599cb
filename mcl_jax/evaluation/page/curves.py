"""Curves of a training run: kept as one JSON line a report, and drawn in training.html."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcl_jax.evaluation.page.templating import render
from mcl_jax.utils.files import write_atomically

LINES, PAGE = "curves.jsonl", "training.html"
_WIDTH, _HEIGHT = 560, 180
_MOST_POINTS = 500  # of a curve on the page: more than its pixels show


class Curves:
    """Figures of a run by step; those after the step that a run resumes from are dropped."""

    def __init__(self, workdir: Path, start: int):
        """Reads the curves of the steps before, if there are any."""
        self._workdir, self._path = workdir, workdir / LINES
        self._points = [point for point in _read(self._path) if point["step"] <= start]
        write_atomically(self._path, "".join(map(_line, self._points)).encode())

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Keeps the figures of a step."""
        point = {"step": step, **figures}
        self._points.append(point)
        with self._path.open("a") as file:
            file.write(_line(point))

    def write_page(self) -> None:
        """Writes training.html.

        Raises:
            UserError: if it cannot be written.
        """
        write_atomically(self._workdir / PAGE, training_page(self._workdir.name, self._points))


def training_page(name: str, points: list[dict[str, Any]]) -> bytes:
    """Returns the content of training.html.

    Args:
        name: of the run.
        points: figures with their "step", in ascending order of it.
    """
    keys = sorted({key for point in points for key in point} - {"step"})
    charts = [_chart(key, [(p["step"], p[key]) for p in points if key in p]) for key in keys]
    facts = {"steps": f"{points[-1]['step']:,}" if points else "0"}
    return render("training.html.j2", title=f"Training of {name}", facts=facts, charts=charts)


def _chart(name: str, values: list[tuple[int, float | None]]) -> dict[str, Any]:
    """Data of a chart for the template; a value that is not finite leaves a gap."""
    known = [(step, value) for step, value in values if value is not None and math.isfinite(value)]
    if not known:
        return {"name": name, "line": "", "last": "n/a", "low": "", "high": "", "first": "", "end": ""}
    low, high = min(v for _, v in known), max(v for _, v in known)
    first, end = known[0][0], known[-1][0]
    shown = known[:: -(-len(known) // _MOST_POINTS)]
    shown += [] if shown[-1] == known[-1] else [known[-1]]

    def place(step: int, value: float) -> str:
        x = _WIDTH * (step - first) / max(end - first, 1)
        y = _HEIGHT * (1 - (value - low) / (high - low)) if high > low else _HEIGHT / 2
        return f"{x:.1f},{y:.1f}"

    return {
        "name": name,
        "line": " ".join(place(*point) for point in shown),
        "last": f"{known[-1][1]:.4g}",
        "low": f"{low:.4g}",
        "high": f"{high:.4g}",
        "first": f"{first:,}",
        "end": f"{end:,}",
    }


def _line(point: Mapping[str, Any]) -> str:
    finite = {k: v if v is not None and math.isfinite(v) else None for k, v in point.items()}
    return json.dumps(finite) + "\n"


def _read(path: Path) -> list[dict[str, Any]]:
    """The points of a file; a line that a killed run left half written is passed over."""
    points = []
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    for line in lines:
        try:
            point = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(point, dict) and isinstance(point.get("step"), int):
            points.append(point)
    return points
