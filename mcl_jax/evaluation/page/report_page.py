"""The page of a scored test set: report.html."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from mcl_jax.evaluation import scoring
from mcl_jax.evaluation.embeddings import EmbeddingSet, SilhouetteFn
from mcl_jax.evaluation.origin import facts_of_origin
from mcl_jax.evaluation.page.confusions import ProbeRow, worst_first
from mcl_jax.evaluation.page.embedding_map import principal_plane
from mcl_jax.evaluation.page.templating import picture, render
from mcl_jax.evaluation.page.walk_frames import EVERY, PackedWalks, pack_walks
from mcl_jax.evaluation.protocols import Protocol
from mcl_jax.evaluation.retrieval import SEEN
from mcl_jax.evaluation.roles import Roles
from mcl_jax.evaluation.scoring import DistanceFn, GroupScores
from mcl_jax.evaluation.tables import percent
from mcl_jax.evaluation.verification import Verification

_MAP_SIZE = 1000
_PALE, _DARK = (253, 231, 200), (18, 78, 120)  # of a heat map: its lowest value, and 100 %


def report_page(
    protocol: Protocol,
    embedding_set: EmbeddingSet,
    roles: Roles,
    groups: dict[str, GroupScores],
    verification: Verification,
    metrics: Mapping[str, Any],
    pictures: Mapping[str, bytes | memoryview],
    distances: DistanceFn,
    silhouettes: SilhouetteFn | None,
) -> bytes:
    """Returns the content of report.html.

    Args:
        protocol: the rules.
        embedding_set: what was scored.
        roles: probes and gallery.
        groups: figures of each group.
        verification: error rates and thresholds.
        metrics: the content of metrics.json.
        pictures: PNG files by their names: cmc.png, roc.png and det.png.
        distances: before re-ranking.
        silhouettes: gives the frames of a sequence; None: no moving pictures, and the page says so.

    Raises:
        DataError: if `silhouettes` cannot read a sequence.
    """
    rows = worst_first(protocol, embedding_set, roles, distances)
    walks = sorted({i for row in rows for i in (row.probe, *row.nearest)})
    packed = pack_walks(walks, silhouettes) if walks and silhouettes is not None else None
    return render(
        "report.html.j2",
        title=protocol.title,
        facts=_facts(metrics),
        figures=_figures(protocol, groups, verification),
        per_view=_per_view(protocol, groups, metrics["views"]),
        heatmaps=_heatmaps(protocol, groups, metrics["views"]),
        cmc=_cmc(groups, scoring.longest_gallery(protocol, embedding_set, roles)),
        points=_points(verification),
        eer=_interval(asdict(verification.eer)),
        left_out=verification.left_out,
        pictures={name.removesuffix(".png"): picture(png) for name, png in pictures.items()},
        seen=SEEN[protocol.leave_out],
        probes=len(rows),
        all_probes=len(roles.rankings()[0]),
        walks=len(walks),
        every=EVERY,
        packed=packed,
        subjects=sorted({str(embedding_set.subjects[i]) for i in walks}),
        data=_data(embedding_set, rows, walks, packed),
    )


def _facts(metrics: Mapping[str, Any]) -> dict[str, str]:
    counts = metrics["counts"]
    probes = ", ".join(f"{name} {count:,}" for name, count in counts["probes"].items())
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


def _figures(
    protocol: Protocol, groups: dict[str, GroupScores], verification: Verification
) -> list[dict[str, Any]]:
    """Rows of the main table: group, its figures, and the interval of its rank-1."""
    rows: list[dict[str, Any]] = [{"name": name, "values": group.scores} for name, group in groups.items()]
    if protocol.mean and len(groups) > 1:
        mean = {f: float(np.mean([group.scores[f] for group in groups.values()])) for f in protocol.figures}
        rows.append({"name": "mean", "values": mean})
    return [
        {
            "name": row["name"],
            "values": {figure: percent(value) for figure, value in row["values"].items()},
            "rank1": _interval(asdict(verification.rank1[row["name"]])),
        }
        for row in rows
    ]


def _interval(estimate: Mapping[str, float]) -> str:
    if np.isnan(estimate["value"]):
        return "n/a"
    if np.isnan(estimate["low"]) or np.isnan(estimate["high"]):
        return percent(estimate["value"])
    return f"{percent(estimate['value'])} ({percent(estimate['low'])} – {percent(estimate['high'])})"


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


def _heatmaps(
    protocol: Protocol, groups: dict[str, GroupScores], views: list[str]
) -> dict[str, list[list[dict[str, str]]]]:
    """Group → rows of cells, each with its text and its colours; one scale for all groups."""
    if protocol.blocks != "view_pair" or len(views) < 2:
        return {}
    cells = {name: group.cells[protocol.figures[0]] for name, group in groups.items()}
    counted = np.ones((len(views), len(views)), bool)
    if protocol.leave_out == "identical_view":
        np.fill_diagonal(counted, False)
    known = np.concatenate([values[counted & ~np.isnan(values)] for values in cells.values()])
    low = min(float(known.min()), 99.0) if known.size else 0.0

    def cell(value: float, counts: bool) -> dict[str, str]:
        if np.isnan(value):
            return {"text": "–", "style": "background:#eee;color:#555"}
        if not counts:
            return {"text": f"{value:.1f}", "style": "background:#eee;color:#555"}
        share = max(value - low, 0) / (100 - low)
        colour = ",".join(str(round(a + share * (b - a))) for a, b in zip(_PALE, _DARK, strict=True))
        ink = "#fff" if share > 0.7 else "#000"  # either has a contrast of 4.5 there
        return {"text": f"{value:.1f}", "style": f"background:rgb({colour});color:{ink}"}

    return {
        name: [
            [cell(value, counts) for value, counts in zip(row, line, strict=True)]
            for row, line in zip(values.tolist(), counted.tolist(), strict=True)
        ]
        for name, values in cells.items()
    }


def _cmc(groups: dict[str, GroupScores], gallery: int) -> dict[str, Any]:
    ranks = [rank for rank in (1, 5, 10, 20) if rank <= min(gallery, scoring.CMC_LENGTH)]
    rows = {name: [percent(float(group.cmc[rank - 1])) for rank in ranks] for name, group in groups.items()}
    return {"ranks": ranks, "rows": rows}


def _points(verification: Verification) -> list[dict[str, str]]:
    return [
        {
            "rate": f"{point.rate:g}",
            "threshold": f"{point.threshold:.4g}",
            "far": f"{point.far.value:.2g}",
            "tar": _interval(asdict(point.tar)),
        }
        for point in verification.points
    ]


def _data(
    embedding_set: EmbeddingSet, rows: list[ProbeRow], walks: list[int], packed: PackedWalks | None
) -> dict[str, Any]:
    """Data for the page's script; sequences are numbered by their place among the walks of the page."""
    place = {walk: i for i, walk in enumerate(walks)}
    plane = principal_plane(embedding_set.embeddings[walks]) if len(walks) > 1 else np.zeros((len(walks), 2))
    on_map = np.round(plane * _MAP_SIZE).astype(int).tolist()
    e = embedding_set
    return {
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
        "frames": packed and {"count": packed.frames, "height": packed.height, "width": packed.width},
    }
