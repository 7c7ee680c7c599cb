"""Scores an embedding set by a protocol and writes the result as numbers, a table and pictures."""

import json
import zipfile
from collections.abc import Callable, Collection
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mcl_jax.errors import DataError
from mcl_jax.evaluation import metrics, scoring
from mcl_jax.evaluation.distances import pairwise_distances
from mcl_jax.evaluation.embeddings import EmbeddingSet
from mcl_jax.evaluation.protocols import Protocol, get_protocol
from mcl_jax.evaluation.rerank import Rerank, rerank_distances
from mcl_jax.evaluation.scoring import DistanceFn, GroupScores, Split
from mcl_jax.files import write_atomically

_MAX_DIGITS = 18  # of a subject in a submission, where it is an integer

# (index of a sequence) → its frames, uint8 [s, h, w]
SilhouetteFn = Callable[[int], np.ndarray]
RIGHT, WRONG, NEUTRAL = "#1a9850", "#d73027", "#4575b4"  # told apart by the colour-blind; marks say it too
REPORT_FILES = (
    "metrics.json",
    "table.txt",
    "cmc.png",
    "heatmap.png",
    "retrieval.png",
    "submission.csv",
    "submission.zip",
)
SHEET_CANDIDATES = 256  # probes among which the sheet looks for right and wrong ones
SHEET_OF_EACH = 3
SHEET_NEAREST = 5


def write_report(
    embedding_set: EmbeddingSet,
    protocol: Protocol | str,
    out_dir: str | Path,
    *,
    metric: str = "euc",
    partition: Collection[str] | None = None,
    rerank: Rerank | None = None,
    silhouettes: SilhouetteFn | None = None,
) -> dict[str, Any]:
    """Scores the embeddings and writes metrics.json, table.txt and pictures into `out_dir`.

    A protocol with a submission file gets submission.csv and .zip instead. Files are written atomically.

    Args:
        embedding_set: embeddings and labels.
        protocol: the rules, or their name in `PROTOCOLS`.
        out_dir: made if it does not exist.
        metric: "euc" or "cos", see `pairwise_distances`.
        partition: `subject-condition-view` strings of the probes, where the protocol needs a probe set.
        rerank: re-ranks each block of distances; needs all distances among its probes and gallery.
        silhouettes: gives the frames of a sequence for the retrieval sheet; None = no sheet.

    Returns:
        What metrics.json holds, with NaN for null; under "table" the text of table.txt.

    Raises:
        DataError, ConfigError: if the embeddings, protocol or metric cannot be used; nothing is written then.
            An earlier report in `out_dir` is gone in any case.
    """
    if isinstance(protocol, str):
        protocol = get_protocol(protocol)
    out_dir = Path(out_dir)
    clear_report(out_dir)
    split = scoring.split_records(protocol, embedding_set, partition)
    plain = distances_between(embedding_set, metric)
    distances = plain if rerank is None else _reranked(plain, rerank)
    report: dict[str, Any] = {
        "protocol": protocol.name,
        "metric": metric,
        "rerank": None if rerank is None else asdict(rerank),
        "counts": _counts(embedding_set, split),
    }
    if protocol.submit:
        csv = submission_csv(protocol, embedding_set, split, distances)
        report["table"] = _write_submission(protocol, split, csv, out_dir)
    else:
        groups = scoring.evaluate(protocol, embedding_set, split, distances)
        views = scoring.view_list(embedding_set, split)
        report |= _as_dict(groups, views)
        report["table"] = format_table(protocol, groups, views)
        _write_figure(out_dir / "cmc.png", draw_cmc(protocol, groups))
        if protocol.blocks == "view_pair" and len(views) > 1:
            _write_figure(out_dir / "heatmap.png", draw_heatmaps(protocol, groups, views))
        _write_sheet(out_dir, protocol, embedding_set, split, plain, silhouettes)
    write_atomically(out_dir / "table.txt", report["table"].encode())
    write_atomically(out_dir / "metrics.json", json.dumps(_without_nan(report), indent=1).encode())
    return report


def clear_report(folder: Path) -> None:
    """Removes the files of an earlier report, which would stand beside other figures."""
    for name in REPORT_FILES:
        (folder / name).unlink(missing_ok=True)


def distances_between(records: EmbeddingSet, metric: str) -> DistanceFn:
    """A function from probe and gallery indices to their distances [n, m]."""
    x = records.embeddings
    return lambda probes, gallery: pairwise_distances(x[probes], x[gallery], metric=metric)


def submission_csv(protocol: Protocol, records: EmbeddingSet, split: Split, distances: DistanceFn) -> str:
    """The CSV text that the benchmark scores: each probe's view name and its nearest subjects as integers.

    Raises:
        DataError: if the gallery is smaller than the list, or a gallery subject is not a number.
    """
    k = protocol.submit
    if len(split.gallery) < k:
        raise DataError(
            f"protocol {protocol.name}: {len(split.gallery)} gallery sequences cannot fill {k} ranks: "
            f"embed the whole gallery"
        )
    subjects = records.subjects[split.gallery]
    strange = [s for s in subjects.tolist() if not (s.isascii() and s.isdigit() and len(s) <= _MAX_DIGITS)]
    if strange:
        raise DataError(
            f"protocol {protocol.name}: gallery subject {strange[0]!r} is no number: use GREW's folder names"
        )
    probes = np.concatenate(list(split.probes.values()))
    nearest = subjects.astype(np.int64)[metrics.nearest(distances(probes, split.gallery), k)]
    lines = [",".join(["videoId", *(f"rank{i}" for i in range(1, k + 1))])]
    for video, row in zip(records.views[probes].tolist(), nearest.tolist(), strict=True):
        lines.append(",".join([video, *map(str, row)]))
    return "\n".join(lines) + "\n"


def format_table(protocol: Protocol, groups: dict[str, GroupScores], views: list[str]) -> str:
    """The figures as papers print them, in %: a summary, then rank-1 per probe view if scored by view."""
    lines = [protocol.title]
    if len(groups) > 1:
        lines.append(_row("", [*groups, "mean"]))
        for figure in protocol.figures:
            values = [group.scores[figure] for group in groups.values()]
            lines.append(_row(figure, [*values, float(np.mean(values))]))
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
        mean = f"mean {_number(groups[name].scores[name_of_figure])}"
        axes.set_title(f"{name}: {mean}" if len(groups) > 1 else mean)
        axes.set_xticks(range(len(views)), views, rotation=90)
        axes.set_yticks(range(len(views)), views)
        axes.set_xlabel("gallery view")
    panels[0].set_ylabel("probe view")
    figure.colorbar(image, ax=list(panels), shrink=0.9, label=f"{name_of_figure} (%)")
    figure.suptitle(f"{protocol.title} (grey)")
    return figure


def draw_sheet(
    protocol: Protocol,
    records: EmbeddingSet,
    rows: list[tuple[int, np.ndarray, np.ndarray]],
    silhouettes: SilhouetteFn,
) -> Figure:
    """Probes in the first column, beside each its nearest gallery sequences with a green or red frame.

    Args:
        protocol: gives the title.
        records: the labels.
        rows: per probe its index, the indices of its nearest sequences and their distances.
        silhouettes: gives the frames of a sequence.
    """
    columns = 1 + SHEET_NEAREST
    figure = Figure(figsize=(1.75 * columns, 2.1 * len(rows) + 0.4), layout="constrained")
    panels = figure.subplots(len(rows), columns, squeeze=False)
    for line, (probe, nearest, distances) in zip(panels, rows, strict=True):
        _show(line[0], silhouettes(probe), f"probe\n{_label(records, probe)}", NEUTRAL)
        for axes, i, distance in zip(line[1:], nearest.tolist(), distances.tolist(), strict=False):
            right = records.subjects[i] == records.subjects[probe]
            text = f"{'✓' if right else '✗'} {distance:.3f}\n{_label(records, i)}"
            _show(axes, silhouettes(i), text, RIGHT if right else WRONG)
        for axes in line[1 + len(nearest) :]:
            axes.axis("off")
    rule = {
        "nothing": "",
        "identical_view": ", without the probe's view",
        "own_view": ", without its own view",
    }
    figure.suptitle(
        f"{protocol.name}: nearest of the whole gallery{rule[protocol.leave_out]}, with distances"
    )
    return figure


def _write_sheet(
    out_dir: Path,
    protocol: Protocol,
    records: EmbeddingSet,
    split: Split,
    distances: DistanceFn,
    silhouettes: SilhouetteFn | None,
) -> None:
    if silhouettes is None:
        logging.info("no retrieval sheet: the silhouettes were not given")
        return
    rows = _sheet_rows(protocol, records, split, distances)
    if not rows:
        logging.info("no retrieval sheet: no probe may see a gallery sequence of its subject")
        return
    _write_figure(out_dir / "retrieval.png", draw_sheet(protocol, records, rows, silhouettes))


def _sheet_rows(
    protocol: Protocol, records: EmbeddingSet, split: Split, distances: DistanceFn
) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """(probe, nearest, distances) of some probes with a wrong nearest sequence, then with a right one."""
    probes = _spread(np.concatenate(list(split.probes.values())), SHEET_CANDIDATES)
    unseen = scoring.hidden(protocol, records, probes, split.gallery)
    match = (records.subjects[probes][:, None] == records.subjects[split.gallery]) & ~unseen
    answerable = match.any(axis=1)
    probes, unseen, match = probes[answerable], unseen[answerable], match[answerable]
    if not probes.size:
        return []
    block = np.where(unseen, np.inf, distances(probes, split.gallery))
    order = np.argsort(block, axis=1, kind="stable")[:, :SHEET_NEAREST]
    right = np.take_along_axis(match, order[:, :1], axis=1)[:, 0]
    wrong = _spread(np.flatnonzero(~right), SHEET_OF_EACH)
    chosen = [*wrong, *_spread(np.flatnonzero(right), 2 * SHEET_OF_EACH - len(wrong))]
    rows = []
    for i in chosen:
        near = order[i][np.isfinite(block[i, order[i]])]
        rows.append((int(probes[i]), split.gallery[near], block[i, near]))
    return rows


def _spread(values: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of the values, evenly spaced, so that the choice is the same every time."""
    if len(values) <= most:
        return values
    return values[np.linspace(0, len(values) - 1, most).round().astype(int)]


def _reranked(distances: DistanceFn, rerank: Rerank) -> DistanceFn:
    def block(probes: np.ndarray, gallery: np.ndarray) -> np.ndarray:
        together = np.concatenate([probes, gallery])
        return rerank_distances(distances(together, together), len(probes), rerank)

    return block


def _write_submission(protocol: Protocol, split: Split, csv: str, out_dir: Path) -> str:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        # A fixed date, so that equal embeddings give an equal file.
        archive.writestr(zipfile.ZipInfo("submission.csv", (1980, 1, 1, 0, 0, 0)), csv, zipfile.ZIP_DEFLATED)
    write_atomically(out_dir / "submission.csv", csv.encode())
    write_atomically(out_dir / "submission.zip", buffer.getvalue())
    probes = sum(map(len, split.probes.values()))
    return (
        f"{protocol.title}: {probes} probes against {len(split.gallery)} gallery sequences\n"
        f"scored by the benchmark only: upload submission.zip\n"
    )


def _counts(records: EmbeddingSet, split: Split) -> dict[str, Any]:
    return {
        "sequences": len(records),
        "gallery": len(split.gallery),
        "probes": {group: len(probes) for group, probes in split.probes.items()},
        "probe_set_without_sequence": split.absent,
    }


def _as_dict(groups: dict[str, GroupScores], views: list[str]) -> dict[str, Any]:
    scores = {name: group.scores for name, group in groups.items()}
    if len(groups) > 1:
        figures = next(iter(scores.values()))
        scores["mean"] = {
            figure: float(np.mean([group[figure] for group in scores.values()])) for figure in figures
        }
    return {
        "scores": scores,
        "views": views,
        "cells": {name: {k: v.tolist() for k, v in group.cells.items()} for name, group in groups.items()},
        "cmc": {name: group.cmc.tolist() for name, group in groups.items()},
        "unmatched": {name: group.unmatched for name, group in groups.items()},
        "skipped": {name: group.skipped for name, group in groups.items()},
    }


def _without_nan(value: Any) -> Any:
    """The same with None for NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def _row(name: str, values: list[Any]) -> str:
    shown = (value if isinstance(value, str) else _number(value) for value in values)
    return f"{name:<8}" + "".join(f"{text:>8}" for text in shown)


def _number(value: float) -> str:
    return "n/a" if np.isnan(value) else f"{value:.2f}"


def _annotate(axes: Axes, values: np.ndarray, dark_below: float) -> None:
    for (i, j), value in np.ndenumerate(values):
        text = "–" if np.isnan(value) else f"{value:.0f}" if value in (0, 100) else f"{value:.1f}"
        colour = "gray" if i == j or np.isnan(value) else "white" if value < dark_below else "black"
        axes.text(j, i, text, ha="center", va="center", fontsize=7, color=colour)


def _show(axes: Axes, frames: np.ndarray, text: str, colour: str) -> None:
    axes.imshow(frames[len(frames) // 2], cmap="gray", vmin=0, vmax=255)
    axes.set_title(text, fontsize=8, color=colour)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(edgecolor=colour, linewidth=3)


def _label(records: EmbeddingSet, i: int) -> str:
    return f"{records.subjects[i]} {records.conditions[i]} {records.views[i]}"


def _write_figure(path: Path, figure: Figure) -> None:
    buffer = BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    write_atomically(path, buffer.getbuffer())
