"""Scores an embedding set by a protocol; a `Report` shows the result and writes numbers and pictures."""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from mcl_jax.errors import ConfigError, DataError, UserError
from mcl_jax.evaluation import scoring
from mcl_jax.evaluation.distances import pairwise_distances
from mcl_jax.evaluation.embeddings import EmbeddingSet, ExplainFn, SilhouetteFn
from mcl_jax.evaluation.origin import lines_of_origin
from mcl_jax.evaluation.pairs import Pairs
from mcl_jax.evaluation.protocol_file import find_protocol
from mcl_jax.evaluation.protocols import Protocol
from mcl_jax.evaluation.rerank import Rerank, rerank_distances
from mcl_jax.evaluation.roles import Roles, assign_roles
from mcl_jax.evaluation.scoring import DistanceFn, GroupScores
from mcl_jax.evaluation.submission import (
    submission_csv,
    submission_digests,
    submission_summary,
    submission_zip,
)
from mcl_jax.evaluation.tables import format_table, html_table
from mcl_jax.evaluation.verification import Verification, verify
from mcl_jax.utils.digest import sealed
from mcl_jax.utils.extras import require_extra
from mcl_jax.utils.files import write_atomically

REPORT_FILES = (
    "metrics.json",
    "table.txt",
    "cmc.png",
    "heatmap.png",
    "roc.png",
    "det.png",
    "retrieval.png",
    "report.html",
    "submission.csv",
    "submission.zip",
    "submission.sha256",
)
EXPLAINED = "confusion-[0-9]*.html"
"""Pages of explained confusions among the files of a report."""


# Embeddings are equal where no number differs by more than this share of the largest, or than nothing.
_EQUAL, _NOTHING = 1e-5, 1e-9


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """An embedding set scored by a protocol, as `score` returns it. `print` and a notebook show its table.

    Attributes:
        protocol: the rules it was scored by.
        embedding_set: what was scored.
        roles: which sequences are probes and which are gallery.
        groups: figures of each group of probes; empty where only the benchmark scores.
        submission: CSV text for the benchmark; empty where the figures are known here.
        metrics: what metrics.json holds, with NaN for null. Always "protocol", "metric", "rerank", "counts"
            and "table"; of a test also "model", "data" and "made", where it comes from; "notes" where `note`
            was called;
            "scores", "views", "cells", "cmc", "unmatched", "skipped" and "verification" where the figures are
            known here.
            docs/evaluation.md describes them.
        verification: error rates and thresholds of pairs; None where only the benchmark scores.
    """

    protocol: Protocol
    embedding_set: EmbeddingSet
    roles: Roles
    groups: dict[str, GroupScores]
    submission: str
    metrics: dict[str, Any]
    verification: Verification | None

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """Group → figure → %, for example `scores["NM"]["Rank-1"]`.

        With several groups, "mean" is their mean, where the protocol tells it. NaN where nothing could be
        ranked; no groups where only the benchmark scores.
        """
        scores: dict[str, dict[str, float]] = self.metrics.get("scores", {})
        return scores

    @property
    def table(self) -> str:
        """The figures as papers print them, in %; ends with a newline. The content of table.txt."""
        table: str = self.metrics["table"]
        return table

    def threshold(self, far: float) -> float:
        """The largest distance at which two sequences may be taken for one subject's at a false-accept rate.

        Distances are those of `metric` before any re-ranking.

        Args:
            far: the share of pairs of two subjects that may be accepted, for example 1e-3.

        Raises:
            ConfigError: if it is not between 0 and 1, there are too few pairs, or only the benchmark scores.
        """
        if self.verification is None:
            raise ConfigError(
                f"protocol {self.protocol.name}: no threshold: only the benchmark knows subjects"
            )
        return self.verification.threshold(far)

    def note(self, text: str) -> None:
        """Adds a sentence that a reader of the figures must know: to the table, metrics.json and the page."""
        self.metrics.setdefault("notes", []).append(text)
        self.metrics["table"] += f"\n{text}\n"

    def add_origin(self, **blocks: Any) -> None:
        """Adds where the figures come from: to metrics.json, as last lines of the table, and to the page.

        Args:
            **blocks: of metrics.json, as `mcl_jax.evaluation.origin` makes them.
        """
        self.metrics.update(blocks)
        self.metrics["table"] += f"\n{lines_of_origin(self.metrics)}"

    def __repr__(self) -> str:
        return self.table.rstrip("\n")

    def _repr_html_(self) -> str:
        return (
            html_table(self.protocol, self.scores, self.metrics.get("notes", ()))
            or f"<pre>{escape(self.table)}</pre>"
        )

    def write(
        self,
        folder: str | Path,
        silhouettes: SilhouetteFn | None = None,
        *,
        explain: ExplainFn | None = None,
        explained: int = 0,
    ) -> None:
        """Writes metrics.json, table.txt, pictures and a page, or the submission instead of these two.

        Pictures are cmc.png, heatmap.png (only where views are compared in pairs), roc.png, det.png and
        retrieval.png (only with silhouettes). The page, report.html, has all that in one file, to browse.
        Files of an earlier report are removed first; then each file is written whole or not at all,
        metrics.json last.

        Args:
            folder: made if it does not exist.
            silhouettes: gives the frames, uint8 [s, h, w], of sequence i of the embedding set, for the sheet
                of probes and their nearest gallery sequences and for the page; None = no sheet, and a page
                without moving pictures.
            explain: makes a page that explains the distance of two sequences.
            explained: how many of the worst confusions get such a page, confusion-1.html and so on, to which
                report.html has links.

        Raises:
            UserError: if a file cannot be written or removed, or the extra `report` is not installed.
            DataError: if `silhouettes` cannot read a sequence.
        """
        folder = Path(folder)
        if not self.protocol.submit:
            require_extra("report", "a report with pictures")
        clear_report(folder)
        if self.protocol.submit:
            submission = {
                "submission.csv": self.submission.encode(),
                "submission.zip": submission_zip(self.submission),
            }
            for name, content in submission.items():
                write_atomically(folder / name, content)
            write_atomically(folder / "submission.sha256", submission_digests(submission).encode())
        else:
            self._write_pictures(folder, silhouettes, explain, explained)
        write_atomically(folder / "table.txt", self.table.encode())
        metrics = sealed(without_nan(self.metrics))
        write_atomically(folder / "metrics.json", json.dumps(metrics, indent=1, allow_nan=False).encode())

    def _write_pictures(
        self, folder: Path, silhouettes: SilhouetteFn | None, explain: ExplainFn | None, explained: int
    ) -> None:
        from mcl_jax.evaluation.report_files import write_pictures  # matplotlib takes a while to import

        assert self.verification is not None  # as wherever figures are known here
        write_pictures(
            folder,
            self.protocol,
            self.embedding_set,
            self.roles,
            self.groups,
            self.verification,
            self.metrics,
            _distances_between(self.embedding_set, self.metrics["metric"]),
            silhouettes,
            explain,
            explained,
        )


def score(
    embeddings: EmbeddingSet,
    protocol: Protocol | str,
    *,
    metric: str = "euc",
    probe_set: Collection[str] | None = None,
    gallery_set: Collection[str] | None = None,
    rerank: Rerank | None = None,
) -> Report:
    """Scores the embeddings of a test set as a dataset's protocol says.

        report = score(EmbeddingSet.load("embeddings.npz"), "casiab")
        print(report)
        report.scores["NM"]["Rank-1"]  # %
        report.write("report")

    Args:
        embeddings: embeddings [n, parts, channels] with the subject, condition and view of each sequence.
        protocol: a name in `PROTOCOLS` ("casiab", "gait3d", …), the path of a JSON file of your own, or
            rules of your own.
        metric: "euc", the mean over parts of the Euclidean distance, or "cos", 1 − the mean cosine.
        probe_set: `subject-condition-view` names of the probes, for protocols that list them ("gait3d").
        gallery_set: the same of the gallery, where a partition lists it; None for all that are no probes.
        rerank: re-ranks each block of distances by k-reciprocal neighbours; takes 4 · (probes + gallery)²
            bytes of memory for a block.

    Raises:
        ConfigError: if there is no protocol or metric of this name; the message lists those that exist.
        DataError: if the embeddings do not fit the protocol, are all equal, or no distances can be computed
            from them.
    """
    if isinstance(protocol, str):
        protocol = find_protocol(protocol)
    roles = assign_roles(protocol, embeddings, probe_set, gallery_set)
    if rerank is not None and any(
        scoring.overlap(probes, roles.gallery_of(group)) for group, probes in roles.probes.items()
    ):
        raise DataError(
            f"protocol {protocol.name}: re-ranking needs probes that are not in the gallery too: leave "
            "out rerank, or choose another protocol"
        )
    _require_difference(embeddings)
    plain = _distances_between(embeddings, metric)
    distances = plain if rerank is None else _reranked(plain, rerank)
    metrics: dict[str, Any] = {
        "protocol": protocol.name,
        "metric": metric,
        "rerank": None if rerank is None else asdict(rerank),
        "counts": _counts(embeddings, roles),
    }
    if protocol.submit:
        csv = submission_csv(protocol, embeddings, roles, distances)
        metrics["table"] = submission_summary(protocol, roles)
        return Report(protocol, embeddings, roles, {}, csv, metrics, None)
    pairs = Pairs(embeddings.subjects, roles.probes)

    def count(group: str, probes: np.ndarray, gallery: np.ndarray, block: np.ndarray) -> None:
        if rerank is not None:  # re-ranked distances depend on the block, so no threshold on them would last
            block = np.where(np.isposinf(block), np.inf, plain(probes, gallery))
        pairs.add(group, probes, gallery, block)

    groups = scoring.score_groups(protocol, embeddings, roles, distances, count)
    verification = verify(protocol, roles, groups, pairs)
    views = scoring.view_list(protocol, embeddings, roles)
    metrics |= _figures(protocol, groups, views)
    metrics["verification"] = verification.as_json()
    metrics["table"] = format_table(protocol, groups, views)
    return Report(protocol, embeddings, roles, groups, "", metrics, verification)


def clear_report(folder: str | Path) -> None:
    """Removes the files of an earlier report, which would otherwise stand beside newer figures.

    Raises:
        UserError: if one cannot be removed, or the folder is a file.
    """
    explained = sorted(Path(folder).glob(EXPLAINED)) if Path(folder).is_dir() else []
    for path in (*(Path(folder, name) for name in REPORT_FILES), *explained):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{path}: cannot be removed: {error.strerror}: give another folder") from None


def _require_difference(embeddings: EmbeddingSet) -> None:
    """Refuses embeddings that are all equal, whose order of distances is that of rounding."""
    x = embeddings.embeddings
    largest, spread = float(np.abs(x).max()), float(np.ptp(x, axis=0).max())
    if len(x) > 1 and spread <= max(_EQUAL * largest, _NOTHING):
        raise DataError(
            f"embeddings: all {len(x)} are equal (their numbers differ by at most {spread:.2g}): the model "
            "has collapsed: train again with a lower learning rate, or test another checkpoint"
        )


def _distances_between(embedding_set: EmbeddingSet, metric: str) -> DistanceFn:
    """A function from probe and gallery indices to their distances [n, m]."""
    x = embedding_set.embeddings
    return lambda probes, gallery: pairwise_distances(x[probes], x[gallery], metric=metric)


def _reranked(distances: DistanceFn, rerank: Rerank) -> DistanceFn:
    def block(probes: np.ndarray, gallery: np.ndarray) -> np.ndarray:
        together = np.concatenate([probes, gallery])
        return rerank_distances(distances(together, together), len(probes), rerank)

    return block


def _counts(embedding_set: EmbeddingSet, roles: Roles) -> dict[str, Any]:
    return {
        "sequences": len(embedding_set),
        "gallery": len(roles.gallery),
        "probes": {group: len(probes) for group, probes in roles.probes.items()},
        "probe_set_without_sequence": roles.absent,
    }


def _figures(protocol: Protocol, groups: dict[str, GroupScores], views: list[str]) -> dict[str, Any]:
    """The part of metrics.json that the groups' figures make."""
    scores = {name: group.scores for name, group in groups.items()}
    if protocol.mean and len(groups) > 1:
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


def without_nan(value: Any) -> Any:
    """The same with None for NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value
