"""Frames and sequences that a preparation leaves out, and the table that lists them."""

import csv
import dataclasses
import io
from collections.abc import Iterable

SKIPPED = "skipped.csv"
"""Name of the table in the output folder."""

CSV_COLUMNS = ("subject", "condition", "view", "frame", "reason")


@dataclasses.dataclass(frozen=True, order=True)
class Issue:
    """A frame that was left out, or a whole sequence if `frame` is empty.

    `damaged` is set if the sequence cannot be written until the user repairs or skips the file.
    """

    subject: str
    condition: str
    view: str
    frame: str
    reason: str
    damaged: bool = False


def issues_csv(issues: Iterable[Issue]) -> bytes:
    """Returns the table of all issues, sorted by sequence and frame."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    writer.writerows(dataclasses.astuple(issue)[: len(CSV_COLUMNS)] for issue in sorted(issues))
    return text.getvalue().encode("utf-8")
