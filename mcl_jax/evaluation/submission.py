"""Writes the submission file of a benchmark that does its own scoring."""

import hashlib
import zipfile
from collections.abc import Mapping
from io import BytesIO

import numpy as np

from mcl_jax.errors import DataError
from mcl_jax.evaluation import metrics
from mcl_jax.evaluation.embeddings import EmbeddingSet
from mcl_jax.evaluation.protocols import Protocol
from mcl_jax.evaluation.scoring import DistanceFn, Roles

_MAX_DIGITS = 18  # of a subject in a submission, where it is an integer


def submission_csv(
    protocol: Protocol, embedding_set: EmbeddingSet, roles: Roles, distances: DistanceFn
) -> str:
    """The CSV text that the benchmark scores: each probe's view name and its nearest subjects as integers.

    Raises:
        DataError: if the gallery is smaller than the list, or a gallery subject is not a number.
    """
    k = protocol.submit
    if len(roles.gallery) < k:
        raise DataError(
            f"protocol {protocol.name}: {len(roles.gallery)} gallery sequences cannot fill {k} ranks: "
            f"embed the whole gallery"
        )
    subjects = embedding_set.subjects[roles.gallery]
    strange = [s for s in subjects.tolist() if not (s.isascii() and s.isdigit() and len(s) <= _MAX_DIGITS)]
    # A comma or a line's end would move the ranks that follow.
    unfit = [view for view in embedding_set.views.tolist() if set(view) & set(',"\r\n')]
    if unfit:
        raise DataError(
            f"protocol {protocol.name}: view {unfit[0]!r} cannot be in a submission: use GREW's folder names"
        )
    if strange:
        raise DataError(
            f"protocol {protocol.name}: gallery subject {strange[0]!r} is no number: use GREW's folder names"
        )
    probes = roles.all_probes()
    nearest = subjects.astype(np.int64)[metrics.nearest(distances(probes, roles.gallery), k)]
    lines = [",".join(["videoId", *(f"rank{i}" for i in range(1, k + 1))])]
    for video, row in zip(embedding_set.views[probes].tolist(), nearest.tolist(), strict=True):
        lines.append(",".join([video, *map(str, row)]))
    return "\n".join(lines) + "\n"


def submission_zip(csv: str) -> bytes:
    """The content of a zip file that holds the CSV text as submission.csv; equal text gives equal bytes."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        # A fixed date, so that equal embeddings give an equal file.
        archive.writestr(zipfile.ZipInfo("submission.csv", (1980, 1, 1, 0, 0, 0)), csv, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def submission_digests(files: Mapping[str, bytes]) -> str:
    """The content of submission.sha256, by which `sha256sum -c` finds damage.

    A file of its own, as the benchmark's format has no place for a digest.
    """
    return "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items())


def submission_summary(protocol: Protocol, roles: Roles) -> str:
    """Text in place of the table: the number of sequences, and who scores them."""
    return (
        f"{protocol.title}: {len(roles.all_probes())} probes against {len(roles.gallery)} gallery sequences\n"
        f"scored by the benchmark only: upload submission.zip\n"
    )
