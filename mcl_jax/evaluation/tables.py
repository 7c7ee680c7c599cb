"""Formats the printed table of a scored protocol."""

from typing import Any

import numpy as np

from mcl_jax.evaluation import scoring
from mcl_jax.evaluation.protocols import Protocol
from mcl_jax.evaluation.scoring import GroupScores


def format_table(protocol: Protocol, groups: dict[str, GroupScores], views: list[str]) -> str:
    """The figures as papers print them, in %: a summary, then rank-1 per probe view if scored by view."""
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


def percent(value: float) -> str:
    """Two decimals; "n/a" for NaN."""
    return "n/a" if np.isnan(value) else f"{value:.2f}"


def _row(name: str, values: list[Any]) -> str:
    shown = (value if isinstance(value, str) else percent(value) for value in values)
    return f"{name:<8}" + "".join(f"{text:>8}" for text in shown)
