"""Pictures of a scored protocol: cumulative match characteristic and heat maps of views."""

from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mcl_jax.evaluation import scoring
from mcl_jax.evaluation.protocols import Protocol
from mcl_jax.evaluation.scoring import GroupScores
from mcl_jax.evaluation.tables import percent


def draw_cmc(protocol: Protocol, groups: dict[str, GroupScores]) -> Figure:
    """Cumulative match characteristic of every group."""
    figure = Figure(figsize=(6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for (name, group), marker in zip(groups.items(), "osD^v*", strict=False):
        if np.isnan(group.cmc).all():
            continue
        label = (
            f"{name}: {group.cmc[0]:.1f} % at rank 1"
            if len(groups) > 1
            else f"{group.cmc[0]:.1f} % at rank 1"
        )
        axes.plot(np.arange(1, len(group.cmc) + 1), group.cmc, marker=marker, markersize=4, label=label)
    axes.set(title=protocol.title, xlabel="rank k", ylabel="probes matched within rank k (%)")
    axes.set_xticks([1, *range(5, scoring.CMC_LENGTH + 1, 5)])
    axes.set_ylim(top=101)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(loc="lower right")
    return figure


def draw_heatmaps(protocol: Protocol, groups: dict[str, GroupScores], views: list[str]) -> Figure:
    """First figure in % of probe view × gallery view, a panel per group; the left-out diagonal is grey."""
    name_of_figure = protocol.figures[0]
    side = 1.1 + 0.42 * len(views)
    figure = Figure(figsize=(max(5.5, side * len(groups) + 0.9), side + 0.5), layout="constrained")
    panels = figure.subplots(1, len(groups), squeeze=False)[0]
    cells = {name: group.cells[name_of_figure] for name, group in groups.items()}
    identical = np.eye(len(views), dtype=bool)
    known = np.concatenate([values[~identical & ~np.isnan(values)] for values in cells.values()])
    # One scale for all panels, from the worst block up, so that panels compare.
    low = min(float(known.min()), 99.0) if known.size else 0.0
    for axes, (name, values) in zip(panels, cells.items(), strict=True):
        axes.set_facecolor("#ececec")
        image = axes.imshow(np.where(identical, np.nan, values), vmin=low, vmax=100, cmap="viridis")
        _annotate(axes, values, dark_below=low + 0.55 * (100 - low))
        mean = f"mean {percent(groups[name].scores[name_of_figure])}"
        axes.set_title(f"{name}: {mean}" if len(groups) > 1 else mean)
        axes.set_xticks(range(len(views)), views, rotation=90)
        axes.set_yticks(range(len(views)), views)
        axes.set_xlabel("gallery view")
    panels[0].set_ylabel("probe view")
    figure.colorbar(image, ax=list(panels), shrink=0.9, label=f"{name_of_figure} (%)")
    figure.suptitle(f"{protocol.title} (grey)")
    return figure


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
