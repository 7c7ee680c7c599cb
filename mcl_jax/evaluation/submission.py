"""Makes the submission file for a benchmark that does the scoring itself."""

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
from mcl_jax.utils.terminal import count

_MAX_DIGITS = 18  # of a subject that is written as a number


def submission_csv(
    protocol: Protocol, embedding_set: EmbeddingSet, roles: Roles, distances: DistanceFn
) -> str:
    """Returns the CSV text that the benchmark scores: each probe's view and its nearest subjects.

    Raises:
        DataError: if the gallery is smaller than the required list, two probes have the same view, or a name
            is not allowed in the file.
    """
    form = protocol.submit
    assert form is not None  # the caller checks it
    if len(roles.gallery) < form.length:
        raise DataError(
            f"protocol {protocol.name}: the gallery has {count(len(roles.gallery), 'sequence')}, and the "
            f"submission needs {count(form.length, 'rank')}: embed the whole gallery"
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
    """Returns why a name is not allowed in a submission; "" if all are allowed.

    Args:
        form: format of the file.
        views: views of all sequences.
        videos: views of the probes, by which the file identifies them.
        subjects: subjects of the gallery.
    """
    for role, names in (("view", views), ("gallery subject", subjects)):
        # A comma or line break would shift the following columns.
        if unfit := [name for name in names if set(name) & set(',"\r\n')]:
            return f"{role} {unfit[0]!r} is not allowed in a submission"
    if form.numbers:
        strange = [s for s in subjects if not (s.isascii() and s.isdigit() and len(s) <= _MAX_DIGITS)]
        if strange:
            return f"gallery subject {strange[0]!r} is not a number"
    name, times = Counter(videos).most_common(1)[0]
    if times == 1:
        return ""
    return f"{times} probes have the view {name!r}, but the file identifies probes by their view"


def submission_zip(csv: str) -> bytes:
    """Returns a zip file with the CSV text as submission.csv; equal text gives equal bytes."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        # A fixed date, so that equal embeddings give an equal file.
        archive.writestr(zipfile.ZipInfo("submission.csv", (1980, 1, 1, 0, 0, 0)), csv, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def submission_digests(files: Mapping[str, bytes]) -> str:
    """Returns the content of submission.sha256, with which `sha256sum -c` detects damage.

    It is a separate file, because the benchmark's format has no place for a digest.
    """
    return "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items())


def submission_summary(protocol: Protocol, roles: Roles) -> str:
    """Returns the text that replaces the table: the number of sequences, and who scores them."""
    return (
        f"{protocol.title}: {len(roles.all_probes())} probes against {len(roles.gallery)} gallery sequences\n"
        f"scored by the benchmark only: upload submission.zip\n"
    )
