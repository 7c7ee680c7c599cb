"""Plots of a scored test: cumulative match characteristic, heat maps of views, error rates."""

import math
import textwrap
from collections.abc import Iterable
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, MultipleLocator, NullLocator
from scipy.special import ndtr, ndtri

from mcl_jax.evaluation import scoring
from mcl_jax.evaluation.colours import HEAT, INK, OVERALL, SOFT, Look, ink_on, looks
from mcl_jax.evaluation.heat_map import HeatMap, heat_map
from mcl_jax.evaluation.protocols import Protocol
from mcl_jax.evaluation.scoring import GroupScores
from mcl_jax.evaluation.tables import percent
from mcl_jax.evaluation.verification import Verification
from mcl_jax.utils.names import short_names
from mcl_jax.utils.terminal import printable

NAME_LENGTH = 24
"""Maximum letters of a name in a picture or table; tables have the full name as a tooltip."""

_DPI = 150  # sharp on a phone and on paper
_MAX_NUMBERED_VIEWS = 16  # heat maps with more views have no numbers in their cells
_MAX_WIDTH = 18  # inches, of a row of heat maps
_BEHIND = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.8}  # box behind text on lines
_ERROR_TICKS = (0.001, 0.01, 0.1, 1, 5, 20, 50, 80, 95, 99, 99.9)  # %


def draw_cmc(protocol: Protocol, groups: dict[str, GroupScores], gallery: int, model: str = "") -> Figure:
    """Draws the cumulative match characteristic of every group, up to the size of the gallery.

    Args:
        protocol: the rules.
        groups: figures of each group.
        gallery: maximum number of sequences that a probe is ranked against.
        model: name of the model, for the title.
    """
    length = min(scoring.CMC_LENGTH, gallery)
    names, styles = short_names(groups, NAME_LENGTH), looks(groups)
    known = {name: group.cmc[:length] for name, group in groups.items() if not np.isnan(group.cmc).all()}
    figure, axes = _framed(protocol, model, len(known))
    for name, cmc in known.items():
        label = f"{literal(names[name])}: {cmc[0]:.1f} %" if len(groups) > 1 else f"{cmc[0]:.1f} %"
        axes.plot(np.arange(1, length + 1), cmc, label=label, **_line(styles[name]), **_marks(styles[name]))
    axes.set(xlabel="rank k", ylabel="probes matched within rank k (%)")
    axes.set_xticks([1, *range(5, length + 1, 5)] if length >= 5 else range(1, length + 1))
    axes.set_xlim(0.5, length + 0.5)
    _to_hundred(axes, known.values())
    _legend_below(figure, axes, "at rank 1")
    return figure


def draw_heatmaps(
    protocol: Protocol, groups: dict[str, GroupScores], views: list[str], model: str = ""
) -> Figure:
    """Draws a heat map of probe view × gallery view per group; cells that do not count are striped.

    Args:
        protocol: the rules; its first figure is drawn.
        groups: figures of each group.
        views: names of the rows and columns.
        model: name of the model, for the title.
    """
    table = heat_map(protocol, groups)
    labels = [literal(name) for name in short_names(views, NAME_LENGTH // 2).values()]
    numbered = len(views) <= _MAX_NUMBERED_VIEWS
    side = (0.44 if numbered else 0.2) * len(views) + 0.5 + 0.08 * max(map(len, labels))
    rows = math.ceil(len(groups) / max(1, int(_MAX_WIDTH / side)))
    columns = math.ceil(len(groups) / rows)
    figure = Figure((max(5.5, side * columns + 0.9), (side + 0.7) * rows), _DPI, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    names = short_names(groups, min(NAME_LENGTH, int(11 * side)))
    colours = LinearSegmentedColormap.from_list("heat", HEAT)
    for axes, (name, values) in zip(panels.flat, table.cells.items(), strict=False):
        shown = np.where(table.counted, values, np.nan)
        image = axes.imshow(shown, vmin=table.low, vmax=100, cmap=colours)
        _stripe(axes, table)
        if numbered:
            _annotate(axes, table, values)
        mean = f"mean {percent(groups[name].scores[table.figure])}"
        axes.set_title(f"{literal(names[name])}\n{mean}" if len(groups) > 1 else mean, fontsize=9)
        _name_cells(axes, labels)
    for axes in panels.flat[len(groups) :]:
        axes.axis("off")
    shrink = min(0.9, 4 / figure.get_figheight())
    figure.colorbar(image, ax=list(panels.flat), shrink=shrink, label=literal(f"{table.figure} (%)"))
    note = "" if table.counted.all() else "striped: not in the mean"
    write_title(figure, protocol.data, "; ".join(filter(None, (protocol.rules, note))), model)
    return figure


def draw_roc(protocol: Protocol, verification: Verification, model: str = "") -> Figure:
    """Draws true-accept rate against false-accept rate, with intervals at the rates that have a threshold.

    Args:
        protocol: the rules.
        verification: the curves.
        model: name of the model, for the title.
    """
    lines = _lines(verification)
    figure, axes = _framed(protocol, model, len(lines))
    axes.set_xscale("log")
    lowest = _lowest_rate(verification)
    axes.set_xlim(lowest, 1)
    axes.xaxis.set_major_formatter("{x:g}")
    curve = verification.curve
    for label, (tar, look) in lines.items():
        axes.plot(curve.far, 100 * tar, drawstyle="steps-post", label=label, **_line(look))
    for point in verification.points:
        if not np.isnan([point.tar.low, point.tar.high]).any():
            axes.vlines(point.rate, point.tar.low, point.tar.high, colors=INK)
        axes.plot(point.rate, point.tar.value, "o", color=INK, markersize=4)
        axes.annotate(
            f"{point.tar.value:.1f}",
            (point.rate, point.tar.value),
            (-5, 7),  # to the upper left, away from a rising curve
            textcoords="offset points",
            ha="right",
            fontsize=8,
            bbox=_BEHIND,
        )
    axes.set(
        xlabel="false-accept rate, share of impostor pairs",
        ylabel="true-accept rate, genuine pairs (%)",
    )
    seen = [tar[max(np.searchsorted(curve.far, lowest, side="right") - 1, 0) :] for tar, _ in lines.values()]
    intervals = [point.tar.low for point in verification.points]
    _to_hundred(axes, [*(100 * tar for tar in seen), np.array(intervals)])
    _write_if_empty(axes, verification)
    _legend_below(figure, axes)
    return figure


def draw_det(protocol: Protocol, verification: Verification, model: str = "") -> Figure:
    """Draws the detection error trade-off: false-reject against false-accept rate, in normal deviates.

    On these axes, the curves of normally distributed distances are straight and well separated.

    Args:
        protocol: the rules.
        verification: the curves.
        model: name of the model, for the title.

    References:
        Martin et al., The DET curve in assessment of detection task performance, Eurospeech 1997.
    """
    lines = _lines(verification)
    figure, axes = _framed(protocol, model, len(lines) + 1)
    curve, genuine = verification.curve, sum(verification.genuine.values())
    left, right = _lowest_rate(verification), 0.5
    floor = min(0.5 / max(genuine, 1), 0.05)  # a rate of 0 is drawn here, below the rate of one pair
    seen = (left <= curve.far) & (curve.far <= right)
    errors = {label: np.clip(1 - tar, floor, 0.999) for label, (tar, _) in lines.items()}
    top = max([error[seen].max(initial=floor) for error in errors.values()], default=0.5)
    bottom = min([error[seen].min(initial=top) for error in errors.values()], default=0.01)
    axes.set_xscale("function", functions=(_deviate, ndtr))
    axes.set_yscale("function", functions=(_deviate, ndtr))
    axes.set_xlim(left, right)
    axes.set_ylim(0.7 * min(bottom, 0.1), max(top, 0.5))
    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        ticks = [tick for tick in _ERROR_TICKS if low <= tick / 100 <= high]
        axis.set_ticks([tick / 100 for tick in ticks], [f"{tick:g}" for tick in ticks])
        axis.set_minor_locator(NullLocator())
    for (label, error), (_, look) in zip(errors.items(), lines.values(), strict=True):
        axes.plot(np.clip(curve.far, 1e-9, 0.999), error, drawstyle="steps-post", label=label, **_line(look))
    if not np.isnan(eer := verification.eer.value):
        axes.plot(
            [1e-9, 0.999], [1e-9, 0.999], color=SOFT, linewidth=0.9, linestyle=":", label="equal errors"
        )
        axes.plot(max(eer / 100, floor), max(eer / 100, floor), "o", color=INK, markersize=4)
    axes.set(xlabel="false-accept rate, impostor pairs (%)", ylabel="false-reject rate, genuine pairs (%)")
    _write_if_empty(axes, verification)
    _legend_below(figure, axes)
    return figure


def _deviate(rates: np.ndarray) -> np.ndarray:
    """Returns the normal deviates of rates, clipped so that they are finite."""
    return np.asarray(ndtri(np.clip(rates, 1e-12, 1 - 1e-12)))


def _lowest_rate(verification: Verification) -> float:
    """Returns the start of the axis of false-accept rates: a third of the lowest, or the rate of one pair."""
    one_pair = min(1 / max(verification.impostor, 1), 0.1)
    return max(one_pair, min((point.rate for point in verification.points), default=one_pair) / 3)


def _write_if_empty(axes: Axes, verification: Verification) -> None:
    if not _lines(verification):
        kind = "genuine" if verification.impostor else "impostor"
        axes.text(0.5, 0.5, f"n/a: there are no {kind} pairs", transform=axes.transAxes, ha="center")


def _lines(verification: Verification) -> dict[str, tuple[np.ndarray, Look]]:
    """Returns legend → (true-accept rates, style), for all pairs, and for each group if there are several."""
    curve, eer = verification.curve, verification.eer
    if np.isnan(eer.value):
        return {}
    known = not np.isnan([eer.low, eer.high]).any()
    interval = f" ({percent(eer.low)}–{percent(eer.high)})" if known else ""
    styles = looks(curve.groups)
    several = len(styles) > 1
    overall = OVERALL if several else next(iter(styles.values()))
    lines = {f"all: equal error rate {percent(eer.value)} %{interval}": (curve.tar, overall)}
    if several:
        names = short_names(curve.groups, NAME_LENGTH)
        lines |= {
            literal(names[name]): (tar, styles[name])
            for name, tar in curve.groups.items()
            if not np.isnan(tar[-1])
        }
    return lines


def _framed(protocol: Protocol, model: str, lines: int) -> tuple[Figure, Axes]:
    """Returns a figure with a title, a grid, and room below for a legend of `lines` lines."""
    figure = Figure((5.6, 3.8 + 0.2 * math.ceil(lines / 2)), _DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    write_title(figure, protocol.data, protocol.rules, model)
    return figure, axes


def _to_hundred(axes: Axes, curves: Iterable[np.ndarray]) -> None:
    """Sets the axis of percentages to end at 100 and to start at a round value below all values."""
    values = np.concatenate([np.array([96.0]), *curves])
    lowest = float(np.nanmin(values))
    step = next(step for step in (1, 2, 5, 10, 20) if step >= (100 - lowest) / 5)
    low = max(step * math.floor((lowest - 0.2 * step) / step), 0)
    axes.yaxis.set_major_locator(MultipleLocator(step))
    axes.set_ylim(low, 100 + 0.02 * (100 - low))


def _legend_below(figure: Figure, axes: Axes, title: str = "") -> None:
    """Adds a legend below the axes, because curves may be in any corner."""
    if axes.get_legend_handles_labels()[0]:
        figure.legend(
            loc="outside lower center", ncols=2, fontsize=8, title=title, title_fontsize=8, frameon=False
        )


def _line(look: Look) -> dict[str, Any]:
    return {"color": look.colour, "linestyle": (0, look.dash) if look.dash else "-", "linewidth": 1.6}


def _marks(look: Look) -> dict[str, Any]:
    return {"marker": look.marker, "markersize": 4}


def write_title(figure: Figure, data: str, rules: str, model: str) -> None:
    """Writes model, data and rules above a figure, and enlarges it to make room."""
    letters = int(figure.get_figwidth() * 11)
    heading = f"{model} on {data}" if model else data
    lines = [*textwrap.wrap(heading, letters), *textwrap.wrap(rules, letters)]
    figure.set_figheight(figure.get_figheight() + 0.18 * len(lines))
    figure.suptitle(literal("\n".join(lines)), x=0.01, ha="left", fontsize=10, color=INK)


def literal(text: str) -> str:
    """Returns a name or title for a figure, without characters that Matplotlib would read as a formula."""
    return printable(text).replace("$", r"\$")  # printable, because fonts have no control characters


def png(figure: Figure) -> memoryview:
    """Returns a figure as PNG; the same bytes for equal figures."""
    buffer = BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getbuffer()


def _name_cells(axes: Axes, labels: list[str]) -> None:
    upright = max(map(len, labels)) > 4 or len(labels) > _MAX_NUMBERED_VIEWS
    axes.set_xticks(range(len(labels)), labels, rotation=90 if upright else 0, fontsize=8)
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set(xlabel="gallery view", ylabel="probe view")
    axes.label_outer()
    for axis in (axes.xaxis, axes.yaxis):  # lines between the cells
        axis.set_minor_locator(FixedLocator([i + 0.5 for i in range(len(labels) - 1)]))
    axes.grid(which="minor", color="white")
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)


def _stripe(axes: Axes, table: HeatMap) -> None:
    for i, j in np.argwhere(~table.counted):
        corner = (j - 0.5, i - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, hatch="////", edgecolor="#c4cad1", linewidth=0))


def _annotate(axes: Axes, table: HeatMap, values: np.ndarray) -> None:
    for (i, j), value in np.ndenumerate(values):
        text = "–" if np.isnan(value) else f"{value:.0f}" if value in (0, 100) else f"{value:.1f}"
        plain = np.isnan(value) or not table.counted[i, j]
        colour = SOFT if plain else ink_on(table.colour(value))
        behind = _BEHIND if plain else None
        axes.text(j, i, text, ha="center", va="center", fontsize=7, color=colour, bbox=behind)
