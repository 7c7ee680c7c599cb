"""Summary of a preparation, and whether it is good enough."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from mcl_jax.data.prepare.jobs import Outcome
from mcl_jax.errors import DataError


@dataclasses.dataclass(frozen=True)
class Summary:
    """Counts of what was written and left out."""

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
    """Raises an error if nothing of a download could be prepared: it is probably another dataset.

    Raises:
        DataError: naming the table of reasons.
    """
    if not any(outcome.sequences for outcome in outcomes):
        raise DataError(
            f"--src: not one usable frame under {str(src)!r}; {table} says why; is it the folder of subjects?"
        )


def check_damage(outcomes: Sequence[Outcome], table: Path) -> None:
    """Fails if a job could not be done for damaged files.

    Raises:
        DataError: the first of them; the table has all.
    """
    damaged = [i for o in outcomes if not o.complete for i in o.issues if i.damaged]
    if damaged:
        others = f" (and {len(damaged) - 1} more damaged files, see {table})" if len(damaged) > 1 else ""
        raise DataError(
            f"{damaged[0].reason}{others}; then run this again, or add --skip-damaged to leave them out"
        )
