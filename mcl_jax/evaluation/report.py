"""Scores an embedding set by a protocol; a `Report` shows the result, and writes figures and pictures."""

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


# Embeddings count as equal if no number differs by more than this share of the largest, or by this value.
_EQUAL_SHARE, _EQUAL_VALUE = 1e-5, 1e-9


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """Result of `score`: an embedding set scored by a protocol. `print` and notebooks show its table.

    Attributes:
        protocol: the rules of the test.
        embedding_set: the scored embeddings.
        roles: which sequences are probes and which are gallery.
        groups: figures of each group of probes; empty if only the benchmark can score.
        submission: CSV text for the benchmark; empty if it is scored here.
        metrics: content of metrics.json, with NaN for null. Always "protocol", "metric", "rerank", "counts"
            and "table"; if scored here, "scores", "views", "cells", "cmc", "unmatched", "skipped" and
            "verification"; in a test of a model, "model", "data" and "made" (the origin); after `note`,
            "notes". docs/evaluation.md describes them.
        verification: error rates and thresholds of pairs; None if only the benchmark can score.
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

        With several groups, "mean" is their mean, if the protocol reports one. NaN if nothing could be
        ranked; empty if only the benchmark can score.
        """
        scores: dict[str, dict[str, float]] = self.metrics.get("scores", {})
        return scores

    @property
    def table(self) -> str:
        """The figures in % as in a paper's table; ends with a newline. This is the content of table.txt."""
        table: str = self.metrics["table"]
        return table

    def threshold(self, far: float) -> float:
        """Returns the largest threshold with at most this false-accept rate.

        Two sequences with a distance up to the threshold count as the same subject. Distances are those of
        `metric` before any re-ranking.

        Args:
            far: the share of pairs of different subjects that may be accepted, for example 1e-3.

        Raises:
            ConfigError: if `far` is not between 0 and 1, there are too few pairs, or only the benchmark can
                score.
        """
        if self.verification is None:
            raise ConfigError(
                f"protocol {self.protocol.name}: no threshold: only the benchmark knows the subjects"
            )
        return self.verification.threshold(far)

    def note(self, text: str) -> None:
        """Adds a note for readers of the figures to the table, metrics.json and the page."""
        self.metrics.setdefault("notes", []).append(text)
        self.metrics["table"] += f"\n{text}\n"

    def add_origin(self, **blocks: Any) -> None:
        """Adds the origin of the figures to metrics.json, the end of the table, and the page.

        Args:
            **blocks: blocks of metrics.json from `mcl_jax.evaluation.origin`.
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
        """Writes metrics.json, table.txt, and either pictures and a page or the submission for a benchmark.

        The pictures are cmc.png, heatmap.png (if views are compared in pairs), roc.png, det.png and
        retrieval.png (only with `silhouettes`). The page, report.html, shows everything in one file.
        Files of an earlier report are removed first; then each file is written completely or not at all,
        metrics.json last.

        Args:
            folder: created if it does not exist.
            silhouettes: returns the frames, uint8 [s, h, w], of sequence i of the embedding set, for
                retrieval.png and the page; None = no retrieval.png, and no moving pictures in the page.
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

        assert self.verification is not None  # always set if scored here
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
    """Scores the embeddings of a test set by a dataset's protocol.

        report = score(EmbeddingSet.load("embeddings.npz"), "casiab")
        print(report)
        report.scores["NM"]["Rank-1"]  # %
        report.write("report")

    Args:
        embeddings: embeddings [n, parts, channels] with the subject, condition and view of each sequence.
        protocol: a name in `PROTOCOLS` ("casiab", "gait3d", …), the path of your own JSON file, or a
            `Protocol`.
        metric: "euc", the mean over parts of the Euclidean distance, or "cos", 1 − the mean cosine.
        probe_set: `subject-condition-view` names of the probes, for protocols that list them ("gait3d").
        gallery_set: likewise for the gallery, if a partition lists it; None for all except the probes.
        rerank: re-ranks each block of distances by k-reciprocal neighbours; needs 4 · (probes + gallery)²
            bytes of memory per block.

    Raises:
        ConfigError: if the protocol or metric is unknown; the message lists the known ones.
        DataError: if the embeddings do not fit the protocol, are all equal, or their distances overflow or
            vanish.
    """
    if isinstance(protocol, str):
        protocol = find_protocol(protocol)
    roles = assign_roles(protocol, embeddings, probe_set, gallery_set)
    if rerank is not None and any(
        scoring.overlap(probes, roles.gallery_of(group)) for group, probes in roles.probes.items()
    ):
        raise DataError(
            f"protocol {protocol.name}: re-ranking is impossible if probes are in the gallery too: leave "
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
        if rerank is not None:  # re-ranked distances depend on the block, so thresholds on them are useless
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
    """Removes the files of an earlier report, so that they do not mix with newer figures.

    Raises:
        UserError: if a file cannot be removed, or the folder is a file.
    """
    explained = sorted(Path(folder).glob(EXPLAINED)) if Path(folder).is_dir() else []
    for path in (*(Path(folder, name) for name in REPORT_FILES), *explained):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{path}: cannot be removed: {error.strerror}: give another folder") from None


def _require_difference(embeddings: EmbeddingSet) -> None:
    """Refuses embeddings that are all equal, because then only rounding decides the ranking."""
    x = embeddings.embeddings
    largest, spread = float(np.abs(x).max()), float(np.ptp(x, axis=0).max())
    if len(x) > 1 and spread <= max(_EQUAL_SHARE * largest, _EQUAL_VALUE):
        raise DataError(
            f"embeddings: all {len(x)} are equal (their numbers differ by at most {spread:.2g}): the model "
            "has collapsed: train again with a lower learning rate, or test another checkpoint"
        )


def _distances_between(embedding_set: EmbeddingSet, metric: str) -> DistanceFn:
    """Returns a function from probe and gallery indices to their distances [n, m]."""
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
    """Returns the part of metrics.json with the figures of the groups."""
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
    """Replaces NaN by None, because JSON has no NaN."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value
