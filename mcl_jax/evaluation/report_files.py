"""Writes the pictures of a report, and the page that shows them."""

from pathlib import Path
from typing import Any

from absl import logging

from mcl_jax.errors import DataError
from mcl_jax.evaluation import scoring
from mcl_jax.evaluation.embeddings import EmbeddingSet, ExplainFn, SilhouetteFn
from mcl_jax.evaluation.page.confusions import ExplainedConfusion, ProbeRow, worst_first
from mcl_jax.evaluation.page.report_page import model_of, report_page
from mcl_jax.evaluation.plots import draw_cmc, draw_det, draw_heatmaps, draw_roc, png
from mcl_jax.evaluation.protocols import Protocol
from mcl_jax.evaluation.retrieval import draw_sheet, sheet_rows
from mcl_jax.evaluation.roles import Roles
from mcl_jax.evaluation.scoring import DistanceFn, GroupScores
from mcl_jax.evaluation.verification import Verification
from mcl_jax.utils.files import write_atomically


def write_pictures(
    folder: Path,
    protocol: Protocol,
    embedding_set: EmbeddingSet,
    roles: Roles,
    groups: dict[str, GroupScores],
    verification: Verification,
    metrics: dict[str, Any],
    distances: DistanceFn,
    silhouettes: SilhouetteFn | None,
    explain: ExplainFn | None,
    explained: int,
) -> None:
    """Writes the pictures and report.html of a `Report`; its `write` lists them.

    Args:
        folder: an existing folder.
        protocol: see `Report`.
        embedding_set: see `Report`.
        roles: see `Report`.
        groups: see `Report`.
        verification: see `Report`.
        metrics: see `Report`.
        distances: distances before re-ranking, because re-ranked ones would need all sequences at once.
        silhouettes: see `Report.write`.
        explain: see `Report.write`.
        explained: see `Report.write`.

    Raises:
        UserError: if a file cannot be written.
        DataError: if `silhouettes` cannot read a sequence.
    """
    model = model_of(metrics)
    longest = scoring.longest_gallery(protocol, embedding_set, roles)
    pictures = {
        "cmc.png": png(draw_cmc(protocol, groups, longest, model)),
        "roc.png": png(draw_roc(protocol, verification, model)),
        "det.png": png(draw_det(protocol, verification, model)),
    }
    for name, content in pictures.items():
        write_atomically(folder / name, content)
    if protocol.blocks == "view_pair" and len(metrics["views"]) > 1:
        heat_maps = draw_heatmaps(protocol, groups, metrics["views"], model)
        write_atomically(folder / "heatmap.png", png(heat_maps))
    if silhouettes is None:
        logging.info("no retrieval.png: no silhouettes were given")
    elif rows := sheet_rows(protocol, embedding_set, roles, distances):
        sheet = draw_sheet(protocol, embedding_set, rows, silhouettes, model)
        write_atomically(folder / "retrieval.png", png(sheet))
    else:
        logging.info("no retrieval.png: no probe may see a gallery sequence of its subject")
    probes = worst_first(protocol, embedding_set, roles, distances)
    explanations = _explain(folder, embedding_set, probes, explain, explained) if explain else []
    page = report_page(
        protocol,
        embedding_set,
        roles,
        groups,
        verification,
        metrics,
        pictures,
        probes,
        silhouettes,
        explanations,
    )
    write_atomically(folder / "report.html", page)


def _explain(
    folder: Path, embedding_set: EmbeddingSet, rows: list[ProbeRow], explain: ExplainFn, most: int
) -> list[ExplainedConfusion]:
    """Writes a page for each of the worst probes whose nearest walk is somebody else's."""
    confused = [row for row in rows if row.rank > 1][:most]
    found = []
    for number, row in enumerate(confused, start=1):
        probe, nearest = row.probe, row.nearest[0]
        name, mistake = f"confusion-{number}.html", ""
        try:
            write_atomically(folder / name, explain(probe, nearest))
        except DataError as error:
            name, mistake = "", str(error)
        found.append(ExplainedConfusion(embedding_set.key(probe), embedding_set.key(nearest), name, mistake))
    return found
