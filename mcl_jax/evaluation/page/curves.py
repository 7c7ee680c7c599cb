"""Curves of a training run: stored as one JSON line per report, and drawn in training.html."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcl_jax.evaluation.colours import OVERALL, Look, looks
from mcl_jax.evaluation.page.charts import Line, chart
from mcl_jax.evaluation.page.templating import render
from mcl_jax.utils.files import write_atomically

LINES, PAGE = "curves.jsonl", "training.html"

_TRAIN, _TEST, _RATE, _SPEED = "train/", "test/", "train/lr", "_per_second"


@dataclass(frozen=True)
class About:
    """Description of the run for its page.

    Attributes:
        name: name of the run.
        whose: the model and the data.
        restarts: step at which the run was restarted → text about it.
    """

    name: str
    whose: str = ""
    restarts: Mapping[int, str] = field(default_factory=dict)


class Curves:
    """Figures of a run by step; a resumed run drops the figures after the step it resumes from."""

    def __init__(self, workdir: Path, start: int, about: About | None = None):
        """Reads the stored curves up to step `start`, if there are any."""
        self._workdir, self._path = workdir, workdir / LINES
        self._about = about or About(workdir.name)
        self._points = [point for point in _read(self._path) if point["step"] <= start]
        write_atomically(self._path, "".join(map(_line, self._points)).encode())

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        """Stores the figures of a step."""
        point = {"step": step, **figures}
        self._points.append(point)
        with self._path.open("a") as file:
            file.write(_line(point))

    def add_scores(self, step: int, scores: Mapping[str, Mapping[str, float]]) -> None:
        """Stores the scores of a test, group of probes → figure → percent, unless they are stored already."""
        figures = {f"{_TEST}{group}/{name}": v for group, each in scores.items() for name, v in each.items()}
        if figures and not any(
            point["step"] == step and figures.keys() <= point.keys() for point in self._points
        ):
            self.add(step, figures)

    def write_page(self) -> None:
        """Writes training.html.

        Raises:
            UserError: if it cannot be written.
        """
        write_atomically(self._workdir / PAGE, training_page(self._about, self._points))


def training_page(about: About, points: list[dict[str, Any]]) -> bytes:
    """Returns the content of training.html.

    Args:
        about: the run.
        points: figures with their "step", in ascending order of steps.
    """
    keys = list(dict.fromkeys(key for point in points for key in point if key != "step"))
    end = points[-1]["step"] if points else 0
    restarts = {step: text for step, text in about.restarts.items() if 0 < step <= end}

    def line(key: str, name: str = "", look: Look = OVERALL, **others: bool) -> Line:
        return Line(key, name, [(p["step"], p[key]) for p in points if key in p], look, **others)

    tests = [
        chart(f"{figure} in %", [line(*each, dotted=True) for each in lines], end, restarts)
        for figure, lines in _scores(keys).items()
    ]
    others = sorted((key for key in keys if not key.startswith(_TEST)), key=_place)
    charts = [
        chart(
            _heading(key),
            [line(key, stepped=key == _RATE)],
            end,
            restarts,
            from_zero=key.endswith(_SPEED),
        )
        for key in others
    ]
    slow = sum(not key.endswith(_SPEED) for key in others)
    sections = {"Test": tests, "Training": charts[:slow], "Speed": charts[slow:]}
    again = {"restarted after": "; ".join(restarts.values())} if restarts else {}
    return render(
        "training.html.j2",
        title=f"Training of {about.name}" + (f": {about.whose}" if about.whose else ""),
        heading=f"Training of {about.name}",
        rules=about.whose,
        facts={"steps": f"{end:,}"} | again,
        sections={name: charts for name, charts in sections.items() if charts},
    )


def _scores(keys: list[str]) -> dict[str, list[tuple[str, str, Look]]]:
    """Returns figure of the tests → (key, group of probes, style) of each of its lines."""
    split = [(key, *key.removeprefix(_TEST).rpartition("/")[::2]) for key in keys if key.startswith(_TEST)]
    styles = looks(dict.fromkeys(group for _, group, _ in split if group != "mean")) | {"mean": OVERALL}
    found: dict[str, list[tuple[str, str, Look]]] = {}
    for key, group, figure in split:
        found.setdefault(figure, []).append((key, group, styles[group]))
    return found


def _place(key: str) -> tuple[int, str]:
    """Returns a sort key: loss first, then its parts, the learning rate, everything else, and speed last."""
    kinds = (key == f"{_TRAIN}loss", key.count("/") > 1, key == _RATE, not key.endswith(_SPEED), True)
    return kinds.index(True), key


def _heading(key: str) -> str:
    name = key.removeprefix(_TRAIN)
    return "learning rate" if key == _RATE else name.replace("/", ": ").replace("_", " ")


def _line(point: Mapping[str, Any]) -> str:
    finite = {k: v if v is not None and math.isfinite(v) else None for k, v in point.items()}
    return json.dumps(finite) + "\n"


def _read(path: Path) -> list[dict[str, Any]]:
    """Returns the points in a file, without incomplete lines, which a killed run may leave."""
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
