"""Counts the results of a preparation, and checks whether they are usable."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from mcl_jax.data.prepare.jobs import Outcome
from mcl_jax.errors import DataError
from mcl_jax.utils.terminal import count


@dataclasses.dataclass(frozen=True)
class Summary:
    """Numbers of sequences and frames that were written and left out."""

    sequences: int
    frames: int
    skipped_sequences: int
    skipped_frames: int


def summarize(outcomes: Sequence[Outcome]) -> Summary:
    """Counts the sequences prepared and those left out."""
    frames = [sequence.frames for outcome in outcomes for sequence in outcome.sequences]
    left_out = [issue.frame == "" for outcome in outcomes for issue in outcome.issues]
    return Summary(len(frames), sum(frames), sum(left_out), len(left_out) - sum(left_out))


def check_usable(outcomes: Sequence[Outcome], src: Path, table: Path) -> None:
    """Raises an error if no sequence could be prepared; then it is probably another dataset.

    Raises:
        DataError: naming the table of reasons.
    """
    if not any(outcome.sequences for outcome in outcomes):
        raise DataError(
            f"--src: no usable sequence under {str(src)!r}; {table} lists the reasons; "
            "check that it is the folder of the subjects"
        )


def check_damage(outcomes: Sequence[Outcome], table: Path) -> None:
    """Raises an error if a job could not be done because of damaged files.

    Raises:
        DataError: with the first damaged file; the table lists all.
    """
    damaged = [i for o in outcomes if not o.complete for i in o.issues if i.damaged]
    if damaged:
        more = count(len(damaged) - 1, "more damaged file")
        others = f" (and {more}, see {table})" if len(damaged) > 1 else ""
        raise DataError(
            f"{damaged[0].reason}{others}; then run this command again, or leave them out with --skip-damaged"
        )
