"""Makes report.html, the page of a scored test set."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from mcl_jax.evaluation import colours, scoring
from mcl_jax.evaluation.embeddings import EmbeddingSet, SilhouetteFn
from mcl_jax.evaluation.heat_map import heat_map
from mcl_jax.evaluation.origin import facts_of_origin
from mcl_jax.evaluation.page.confusions import ExplainedConfusion, ProbeRow
from mcl_jax.evaluation.page.embedding_map import principal_plane
from mcl_jax.evaluation.page.templating import picture, render
from mcl_jax.evaluation.page.walk_frames import EVERY, PackedWalks, pack_walks
from mcl_jax.evaluation.plots import NAME_LENGTH
from mcl_jax.evaluation.protocols import Protocol
from mcl_jax.evaluation.retrieval import SEEN
from mcl_jax.evaluation.roles import Roles
from mcl_jax.evaluation.scoring import GroupScores
from mcl_jax.evaluation.tables import percent
from mcl_jax.evaluation.verification import Verification
from mcl_jax.utils.names import short_names

_MAP_SIZE = 1000
_CAPTION_LENGTH = 12  # letters of a name below a moving silhouette
_MAX_COUNTS = 4  # with more groups of probes, the heading has only their total


def report_page(
    protocol: Protocol,
    embedding_set: EmbeddingSet,
    roles: Roles,
    groups: dict[str, GroupScores],
    verification: Verification,
    metrics: Mapping[str, Any],
    pictures: Mapping[str, bytes | memoryview],
    rows: list[ProbeRow],
    silhouettes: SilhouetteFn | None,
    explained: list[ExplainedConfusion],
) -> bytes:
    """Returns the content of report.html.

    Args:
        protocol: the rules.
        embedding_set: the scored embeddings.
        roles: probes and gallery.
        groups: figures of each group.
        verification: error rates and thresholds.
        metrics: the content of metrics.json.
        pictures: PNG files by name: cmc.png, roc.png and det.png.
        rows: probes and their nearest walks, from `worst_first`.
        silhouettes: returns the frames of a sequence; None: no moving pictures, and the page says so.
        explained: confusions with pages of their own.

    Raises:
        DataError: if `silhouettes` cannot read a sequence.
    """
    walks = sorted({i for row in rows for i in (row.probe, *row.nearest)})
    packed = pack_walks(walks, silhouettes) if walks and silhouettes is not None else None
    model = model_of(metrics)
    whose = f"{model} on " if model else ""
    return render(
        "report.html.j2",
        title=whose + protocol.title,
        heading=whose + protocol.data,
        rules=protocol.rules,
        facts=_facts(metrics),
        marks=_marks(groups),
        figures=_figures(protocol, groups, verification),
        per_view=_per_view(protocol, groups, metrics["views"]),
        heat=_heat(protocol, groups, metrics["views"]),
        cmc=_cmc(groups, scoring.longest_gallery(protocol, embedding_set, roles)),
        points=_points(verification),
        eer=_interval(asdict(verification.eer)),
        left_out=verification.left_out,
        pictures={name.removesuffix(".png"): picture(png) for name, png in pictures.items()},
        seen=SEEN[protocol.leave_out],
        probes=len(rows),
        all_probes=len(roles.rankings()[0]),
        walks=len(walks),
        explained=explained,
        every=EVERY,
        packed=packed,
        subjects=sorted({str(embedding_set.subjects[i]) for i in walks}),
        data=_data(embedding_set, groups, rows, walks, packed),
    )


def model_of(metrics: Mapping[str, Any]) -> str:
    """Returns the model in metrics.json for titles, with its step if known; "" if the model is unknown."""
    model = metrics.get("model", {})
    return ", step ".join(str(model[key]) for key in ("name", "step") if model.get(key))


def _facts(metrics: Mapping[str, Any]) -> dict[str, str]:
    counts = metrics["counts"]
    probes = ", ".join(f"{name} {count:,}" for name, count in counts["probes"].items())
    if len(counts["probes"]) > _MAX_COUNTS:
        probes = f"{sum(counts['probes'].values()):,} in {len(counts['probes'])} groups"
    rerank = metrics["rerank"]
    notes = {"note": " ".join(metrics["notes"])} if "notes" in metrics else {}
    figures = {
        "sequences": f"{counts['sequences']:,}",
        "gallery": f"{counts['gallery']:,}",
        "probes": probes,
        "protocol": metrics["protocol"],
        "distance": {"euc": "Euclidean", "cos": "cosine"}.get(metrics["metric"], metrics["metric"]),
        "re-ranking": "none" if rerank is None else ", ".join(f"{k} {v}" for k, v in rerank.items()),
    }
    return notes | figures | facts_of_origin(metrics)


def _marks(groups: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Returns group, or "mean" → colour, whether lines are dashed, and short name for tables."""
    styles = {"mean": colours.OVERALL} | colours.looks(groups)
    short = short_names(styles, NAME_LENGTH)
    return {
        name: {"colour": look.colour, "dashed": bool(look.dash), "short": short[name]}
        for name, look in styles.items()
    }


def _figures(
    protocol: Protocol, groups: dict[str, GroupScores], verification: Verification
) -> list[dict[str, Any]]:
    """Returns the rows of the main table: group, figures, and interval of rank-1."""
    rows: list[dict[str, Any]] = [{"name": name, "values": group.scores} for name, group in groups.items()]
    if protocol.mean and len(groups) > 1:
        mean = {f: float(np.mean([group.scores[f] for group in groups.values()])) for f in protocol.figures}
        rows.append({"name": "mean", "values": mean})
    return [
        {
            "name": row["name"],
            "values": {figure: percent(value) for figure, value in row["values"].items()},
            "rank1": _interval(asdict(verification.rank1[row["name"]]), value="Rank-1" not in row["values"]),
        }
        for row in rows
    ]


def _interval(estimate: Mapping[str, float], *, value: bool = True) -> str:
    """Returns an estimate in % with its interval, or only the interval if `value` is False."""
    if np.isnan(estimate["value"]):
        return "n/a"
    known = not (np.isnan(estimate["low"]) or np.isnan(estimate["high"]))
    interval = f"{percent(estimate['low'])} – {percent(estimate['high'])}" if known else "n/a"
    if not value:
        return interval
    return f"{percent(estimate['value'])} % ({interval})" if known else f"{percent(estimate['value'])} %"


def _per_view(protocol: Protocol, groups: dict[str, GroupScores], views: list[str]) -> dict[str, Any] | None:
    if protocol.blocks == "all":
        return None
    figure = protocol.figures[0]
    means = {
        name: scoring.mean_over_gallery_views(protocol, group.cells[figure]) for name, group in groups.items()
    }
    return {
        "figure": figure,
        "views": views,
        "rows": {name: [percent(value) for value in values.tolist()] for name, values in means.items()},
    }


def _heat(protocol: Protocol, groups: dict[str, GroupScores], views: list[str]) -> dict[str, Any] | None:
    """Returns the colours of the scale, and group → rows of cells with text, style and tooltip."""
    if protocol.blocks != "view_pair" or len(views) < 2:
        return None
    table = heat_map(protocol, groups)
    short = short_names(views, NAME_LENGTH // 2)

    def cell(name: str, i: int, j: int) -> dict[str, str]:
        value = float(table.cells[name][i, j])
        text = "–" if np.isnan(value) else f"{value:.0f}" if value in (0, 100) else f"{value:.1f}"
        title = f"{name}, probe {views[i]}, gallery {views[j]}: {text}"
        if not table.counted[i, j]:
            return {"text": text, "title": f"{title}, not in the mean", "class": "out", "style": ""}
        if np.isnan(value):
            return {"text": text, "title": f"{title}, nothing to rank", "class": "", "style": ""}
        colour = table.colour(value)
        style = f"background:{colour};color:{colours.ink_on(colour)}"
        return {"text": text, "title": title, "class": "", "style": style}

    indices = range(len(views))
    return {
        "low": f"{table.low:.0f}",
        "scale": ",".join(colours.HEAT),
        "left_out": not table.counted.all(),
        "views": short,
        "tables": {name: [[cell(name, i, j) for j in indices] for i in indices] for name in groups},
    }


def _cmc(groups: dict[str, GroupScores], gallery: int) -> dict[str, Any]:
    ranks = [rank for rank in (1, 5, 10, 20) if rank <= min(gallery, scoring.CMC_LENGTH)]
    rows = {name: [percent(float(group.cmc[rank - 1])) for rank in ranks] for name, group in groups.items()}
    return {"ranks": ranks, "rows": rows}


def _points(verification: Verification) -> list[dict[str, str]]:
    return [
        {
            "rate": np.format_float_positional(point.rate, trim="-"),
            "threshold": f"{point.threshold:.4g}",
            "far": np.format_float_positional(point.far.value, precision=2, fractional=False, trim="-"),
            "tar": _interval(asdict(point.tar)),
        }
        for point in verification.points
    ]


def _data(
    embedding_set: EmbeddingSet,
    groups: Iterable[str],
    rows: list[ProbeRow],
    walks: list[int],
    packed: PackedWalks | None,
) -> dict[str, Any]:
    """Returns the data for the page's script; sequences are numbered by their place in `walks`."""
    place = {walk: i for i, walk in enumerate(walks)}
    plane = principal_plane(embedding_set.embeddings[walks]) if len(walks) > 1 else np.zeros((len(walks), 2))
    on_map = np.round(plane * _MAP_SIZE).astype(int).tolist()
    e = embedding_set
    names = sorted({str(name) for i in walks for name in (e.subjects[i], e.conditions[i], e.views[i])})
    short = short_names(names, _CAPTION_LENGTH)
    return {
        "short": {name: short[name] for name in names if short[name] != name},
        "walks": [
            [str(e.subjects[i]), str(e.conditions[i]), str(e.views[i]), *on_map[place[i]]] for i in walks
        ],
        "probes": [
            [
                place[row.probe],
                row.group,
                row.rank,
                [place[i] for i in row.nearest],
                [round(distance, 4) for distance in row.distances],
            ]
            for row in rows
        ],
        "colours": {name: look.colour for name, look in colours.looks(groups).items()},
        "frames": packed and {"count": packed.frames, "height": packed.height, "width": packed.width},
    }
