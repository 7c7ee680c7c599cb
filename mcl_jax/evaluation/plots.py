"""Plots of a scored protocol: cumulative match characteristic, heat maps of views, error rates."""

from io import BytesIO
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mcl_jax.evaluation import scoring
from mcl_jax.evaluation.protocols import Protocol
from mcl_jax.evaluation.scoring import GroupScores
from mcl_jax.evaluation.tables import percent
from mcl_jax.evaluation.verification import Verification
from mcl_jax.utils.terminal import printable

_PANELS_IN_A_ROW = 4  # of the heat maps, one a group of probes; SUSTech1K has nine


def draw_cmc(protocol: Protocol, groups: dict[str, GroupScores], gallery: int) -> Figure:
    """Cumulative match characteristic of every group, up to the size of the gallery."""
    length = min(scoring.CMC_LENGTH, gallery)
    figure = Figure(figsize=(6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for (name, group), marker in zip(groups.items(), cycle("osD^v*"), strict=False):
        if np.isnan(group.cmc).all():
            continue
        label = (
            f"{literal(name)}: {group.cmc[0]:.1f} % at rank 1"
            if len(groups) > 1
            else f"{group.cmc[0]:.1f} % at rank 1"
        )
        axes.plot(np.arange(1, length + 1), group.cmc[:length], marker=marker, markersize=4, label=label)
    axes.set(title=literal(protocol.title), xlabel="rank k", ylabel="probes matched within rank k (%)")
    axes.set_xticks([1, *range(5, length + 1, 5)] if length >= 5 else range(1, length + 1))
    axes.set_xlim(0.5, length + 0.5)
    axes.set_ylim(0, 102)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(loc="lower right")
    return figure


def draw_heatmaps(protocol: Protocol, groups: dict[str, GroupScores], views: list[str]) -> Figure:
    """First figure in % of probe view × gallery view, a panel per group; the left-out diagonal is grey."""
    name_of_figure = protocol.figures[0]
    side = 1.1 + 0.42 * len(views)
    columns = min(len(groups), _PANELS_IN_A_ROW)
    rows = -(-len(groups) // columns)
    figure = Figure(figsize=(max(5.5, side * columns + 0.9), side * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for unneeded in panels[len(groups) :]:
        unneeded.axis("off")
    cells = {name: group.cells[name_of_figure] for name, group in groups.items()}
    identical = np.eye(len(views), dtype=bool)
    known = np.concatenate([values[~identical & ~np.isnan(values)] for values in cells.values()])
    # One scale for all panels, from the worst block up, so that panels compare.
    low = min(float(known.min()), 99.0) if known.size else 0.0
    for axes, (name, values) in zip(panels, cells.items(), strict=False):
        axes.set_facecolor("#ececec")
        image = axes.imshow(np.where(identical, np.nan, values), vmin=low, vmax=100, cmap="viridis")
        _annotate(axes, values, dark_below=low + 0.55 * (100 - low))
        mean = f"mean {percent(groups[name].scores[name_of_figure])}"
        axes.set_title(f"{literal(name)}: {mean}" if len(groups) > 1 else mean)
        axes.set_xticks(range(len(views)), list(map(literal, views)), rotation=90)
        axes.set_yticks(range(len(views)), list(map(literal, views)))
        axes.set_xlabel("gallery view")
    for axes in panels[::columns]:
        axes.set_ylabel("probe view")
    figure.colorbar(image, ax=list(panels), shrink=0.9, label=literal(f"{name_of_figure} (%)"))
    figure.suptitle(literal(f"{protocol.title} (grey)"))
    return figure


def draw_roc(protocol: Protocol, verification: Verification) -> Figure:
    """True-accept rate against false-accept rate, with the intervals at the rates that have a threshold."""
    figure, axes = _rates_figure(protocol, verification, "true-accept rate, genuine pairs accepted (%)")
    curve = verification.curve
    for name, tar in _lines(verification).items():
        axes.plot(curve.far, 100 * tar, drawstyle="steps-post", label=name)
    for point in verification.points:
        if not np.isnan([point.tar.low, point.tar.high]).any():
            axes.vlines(point.rate, point.tar.low, point.tar.high, colors="black")
        axes.plot(point.rate, point.tar.value, "ko", markersize=4)
        axes.annotate(
            percent(point.tar.value),
            (point.rate, point.tar.value),
            (6, 4 if point.tar.value < 15 else -12),  # inside of the axes
            textcoords="offset points",
            fontsize=8,
        )
    axes.set_ylim(0, 102)
    _legend_below(figure, axes)
    return figure


def draw_det(protocol: Protocol, verification: Verification) -> Figure:
    """Detection error trade-off: false-reject rate against false-accept rate, both on logarithmic axes."""
    figure, axes = _rates_figure(protocol, verification, "false-reject rate, genuine pairs refused (%)")
    curve, genuine = verification.curve, sum(verification.genuine.values())
    lowest = 50 / max(genuine, 1)  # in %: below the rate of one pair, where a rate of 0 is drawn
    for name, tar in _lines(verification).items():
        axes.plot(curve.far, np.maximum(100 * (1 - tar), lowest), drawstyle="steps-post", label=name)
    eer = verification.eer
    if not np.isnan(eer.value):
        rates = np.geomspace(axes.get_xlim()[0], 1)
        axes.plot(rates, 100 * rates, color="gray", linewidth=0.8, linestyle=":", label="equal errors")
    axes.set_yscale("log")
    axes.set_ylim(min(lowest, 50), 110)
    axes.yaxis.set_major_formatter("{x:g}")
    _legend_below(figure, axes)
    return figure


def _rates_figure(protocol: Protocol, verification: Verification, label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6, 4.8), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(literal(protocol.title))
    axes.set(xlabel="false-accept rate, share of impostor pairs accepted", ylabel=label)
    axes.set_xscale("log")
    # From the rate of a single pair on: a rate of 0 has no place on a logarithmic axis.
    axes.set_xlim(min(1 / max(verification.impostor, 1), 0.1), 1)
    axes.grid(alpha=0.3)
    if not _lines(verification):
        kind = "genuine" if verification.impostor else "impostor"
        axes.text(0.5, 0.5, f"n/a: there are no {kind} pairs", transform=axes.transAxes, ha="center")
    return figure, axes


def _legend_below(figure: Figure, axes: Axes) -> None:
    """Outside the axes: curves of good and of poor models leave no corner free."""
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=2, fontsize=9)


def _lines(verification: Verification) -> dict[str, np.ndarray]:
    """Legend → true-accept rates of the curve: of all genuine pairs, and of each of several groups."""
    curve, eer = verification.curve, verification.eer
    if np.isnan(eer.value):
        return {}
    known = not np.isnan([eer.low, eer.high]).any()
    interval = f" ({percent(eer.low)}–{percent(eer.high)})" if known else ""
    lines = {f"all: equal error rate {percent(eer.value)} %{interval}": curve.tar}
    if len(curve.groups) > 1:
        lines |= {literal(name): tar for name, tar in curve.groups.items() if not np.isnan(tar[-1])}
    return lines


def literal(text: str) -> str:
    """Returns a name or title for a figure, in which Matplotlib takes no part for a formula."""
    return printable(text).replace("$", r"\$")  # fonts have no control characters


def png(figure: Figure) -> memoryview:
    """The content of a PNG file; the same bytes for equal figures."""
    buffer = BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getbuffer()


def _annotate(axes: Axes, values: np.ndarray, dark_below: float) -> None:
    for (i, j), value in np.ndenumerate(values):
        text = "–" if np.isnan(value) else f"{value:.0f}" if value in (0, 100) else f"{value:.1f}"
        colour = "gray" if i == j or np.isnan(value) else "white" if value < dark_below else "black"
        axes.text(j, i, text, ha="center", va="center", fontsize=7, color=colour)
