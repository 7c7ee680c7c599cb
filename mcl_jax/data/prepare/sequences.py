"""Reading one sequence of a download whole, with an account of what had to be left out."""

import csv
import dataclasses
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mcl_jax.data.prepare.layouts import LAYOUTS
from mcl_jax.data.prepare.silhouette import SkippedFrameError, read_png
from mcl_jax.data.records import Record
from mcl_jax.data.sources import PklSource
from mcl_jax.errors import DataError

CSV_COLUMNS = ("subject", "condition", "view", "frame", "reason")


@dataclasses.dataclass(frozen=True, order=True)
class Issue:
    """Something left out: a frame, or a whole sequence if `frame` is empty.

    `damaged` is set if the user has to do something about it before the sequence can be written.
    """

    subject: str
    condition: str
    view: str
    frame: str
    reason: str
    damaged: bool = False


@dataclasses.dataclass(frozen=True)
class Reader:
    """Reads the sequences of one download; picklable.

    Attributes:
        dataset: a key of `LAYOUTS`.
        prepared: the sequences are pkl files, not folders of PNGs.
        skip_damaged: do without files that cannot be read, as without frames that show nobody.
    """

    dataset: str
    prepared: bool
    skip_damaged: bool

    def read(self, record: Record) -> tuple[np.ndarray | None, list[Issue]]:
        """Returns silhouettes uint8 [s, 64, w], and what was left out.

        There are no silhouettes if nothing remains, or a file is damaged and `skip_damaged` is not set. PNGs
        give w = 64; a prepared sequence is taken as it is.
        """
        if self.prepared:
            return self._read_pkl(record)
        layout = LAYOUTS[self.dataset]
        files = layout.frames(record.location)
        if not files:
            return None, [_issue(record, "", "no PNG frame in the folder")]
        frames: list[np.ndarray] = []
        issues: list[Issue] = []
        for file in files:
            try:
                frames.append(layout.to_silhouette(read_png(file)))
            except SkippedFrameError as reason:
                issues.append(_issue(record, file.name, str(reason)))
            except DataError as error:
                issues.append(self._damage(record, file, error))
        if not frames:
            issues.append(_issue(record, "", f"none of its {len(files)} frames can be used"))
            return None, issues
        if any(issue.damaged for issue in issues):
            return None, issues
        return np.stack(frames), issues

    def _read_pkl(self, record: Record) -> tuple[np.ndarray | None, list[Issue]]:
        try:
            return PklSource().read(record), []
        except DataError as error:
            return None, [self._damage(record, None, error)]

    def _damage(self, record: Record, file: Path | None, error: DataError) -> Issue:
        reason = str(error)
        if file is not None and not reason.startswith(str(file)):
            reason = f"{file}: {reason}"
        return _issue(record, file.name if file else "", reason, damaged=not self.skip_damaged)


def _issue(record: Record, frame: str, reason: str, damaged: bool = False) -> Issue:
    return Issue(record.subject, record.condition, record.view, frame, reason, damaged)


def issues_csv(issues: Iterable[Issue]) -> bytes:
    """Returns the table of all issues, sorted by sequence and frame."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    writer.writerows(dataclasses.astuple(issue)[: len(CSV_COLUMNS)] for issue in sorted(issues))
    return text.getvalue().encode("utf-8")
