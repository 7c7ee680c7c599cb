"""Writes the submission file of a benchmark that does its own scoring."""

import hashlib
import zipfile
from collections import Counter
from collections.abc import Mapping
from io import BytesIO

import numpy as np

from mcl_jax.errors import DataError
from mcl_jax.evaluation import metrics
from mcl_jax.evaluation.embeddings import EmbeddingSet
from mcl_jax.evaluation.protocols import Protocol, Submission
from mcl_jax.evaluation.roles import Roles
from mcl_jax.evaluation.scoring import DistanceFn

_MAX_DIGITS = 18  # of a subject in a submission, where it is an integer


def submission_csv(
    protocol: Protocol, embedding_set: EmbeddingSet, roles: Roles, distances: DistanceFn
) -> str:
    """The CSV text that the benchmark scores: each probe's view name and its nearest subjects.

    Raises:
        DataError: if the gallery is smaller than the list, two probes have the same view, or a name cannot be
            in the file.
    """
    form = protocol.submit
    assert form is not None  # as wherever a submission is written
    if len(roles.gallery) < form.length:
        raise DataError(
            f"protocol {protocol.name}: {len(roles.gallery)} gallery sequences cannot fill {form.length} "
            f"ranks: embed the whole gallery"
        )
    probes = roles.all_probes()
    videos, subjects = embedding_set.views[probes], embedding_set.subjects[roles.gallery]
    if fault := _unfit(form, embedding_set.views.tolist(), videos.tolist(), subjects.tolist()):
        raise DataError(f"protocol {protocol.name}: {fault}: use the folder names of {protocol.data}")
    labels = subjects.astype(np.int64) if form.numbers else subjects
    nearest = labels[metrics.nearest(distances(probes, roles.gallery), form.length)]
    lines = [",".join(form.header)]
    for video, row in zip(videos.tolist(), nearest.tolist(), strict=True):
        lines.append(",".join([video, *map(str, row)]))
    return "\n".join(lines) + "\n"


def _unfit(form: Submission, views: list[str], videos: list[str], subjects: list[str]) -> str:
    """Returns which name cannot be in a submission, and why; "" where all can.

    Args:
        form: of the file.
        views: of all sequences.
        videos: views of the probes, which the file calls them by.
        subjects: of the gallery.
    """
    for role, names in (("view", views), ("gallery subject", subjects)):
        # A comma or a line's end would move the ranks that follow.
        if unfit := [name for name in names if set(name) & set(',"\r\n')]:
            return f"{role} {unfit[0]!r} cannot be in a submission"
    if form.numbers:
        strange = [s for s in subjects if not (s.isascii() and s.isdigit() and len(s) <= _MAX_DIGITS)]
        if strange:
            return f"gallery subject {strange[0]!r} is no number"
    name, times = Counter(videos).most_common(1)[0]
    return f"{times} probes have the view {name!r}, and the file tells probes by it" if times > 1 else ""


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
