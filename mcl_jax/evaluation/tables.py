"""Formats the printed table of a scored protocol."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from mcl_jax.evaluation import scoring
from mcl_jax.evaluation.protocols import Protocol
from mcl_jax.evaluation.scoring import GroupScores


def format_table(protocol: Protocol, groups: dict[str, GroupScores], views: list[str]) -> str:
    """Returns the figures in % as in a paper's table: a summary, and the first figure per probe view."""
    lines = [protocol.title]
    if len(groups) > 1:
        lines.append(_row("", [*groups, *["mean"] * protocol.mean]))
        for figure in protocol.figures:
            values = [group.scores[figure] for group in groups.values()]
            lines.append(_row(figure, [*values, *[float(np.mean(values))] * protocol.mean]))
    else:
        (group,) = groups.values()
        lines += [
            _row("", list(protocol.figures)),
            _row("", [group.scores[name] for name in protocol.figures]),
        ]
    if protocol.blocks != "all":
        figure = protocol.figures[0]
        lines += ["", f"{figure} per probe view", _row("", [*views, "mean"])]
        for name, group in groups.items():
            values = scoring.mean_over_gallery_views(protocol, group.cells[figure]).tolist()
            lines.append(_row(name, [*values, group.scores[figure]]))
    return "\n".join(lines) + "\n"


def format_cross_table(title: str, scores: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Returns one table of a model's figures on several datasets, in %.

    Args:
        title: the first line.
        scores: dataset → group of probes → figure; no groups if only the benchmark can score.

    Returns:
        A line for each group of each dataset, a column for each figure; "–" if a protocol does not have it.
    """
    figures = list(dict.fromkeys(key for groups in scores.values() for row in groups.values() for key in row))
    rows: list[tuple[str, list[str]]] = [("", figures)]
    for dataset, groups in scores.items():
        for group, values in (groups or {"": {}}).items():
            name = dataset if len(groups) < 2 else f"{dataset} {group}"
            rows.append((name, [percent(values[key]) if key in values else "–" for key in figures]))
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}" + "".join(f"{text:>9}" for text in texts) for name, texts in rows]
    return "\n".join([title, *lines]) + "\n"


def html_table(protocol: Protocol, scores: Mapping[str, Mapping[str, float]], notes: Sequence[str]) -> str:
    """Returns the figures of all groups, in %, as an HTML table with notes below; "" without figures."""
    if not scores:
        return ""
    head = "".join(f"<th>{escape(group)}</th>" for group in scores)
    rows = "".join(
        f"<tr><th>{escape(figure)}</th>"
        + "".join(f"<td>{percent(group[figure])}</td>" for group in scores.values())
        + "</tr>"
        for figure in protocol.figures
    )
    below = "".join(f"<p>{escape(note)}</p>" for note in notes)
    caption = f"<caption>{escape(protocol.title)}</caption>"
    return f"<table>{caption}<tr><th></th>{head}</tr>{rows}</table>{below}"


def percent(value: float) -> str:
    """Returns a value with two decimals; "n/a" for NaN."""
    return "n/a" if np.isnan(value) else f"{value:.2f}"


def _row(name: str, values: list[Any]) -> str:
    shown = (value if isinstance(value, str) else percent(value) for value in values)
    return f"{name:<8}" + "".join(f"{text:>8}" for text in shown)
