"""Reads one sequence of a download, and lists the frames left out."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mcl_jax.data.prepare.frame_file import read_frame
from mcl_jax.data.prepare.issues import Issue
from mcl_jax.data.prepare.jobs import Job
from mcl_jax.data.prepare.layouts import Layout, why_no_frame
from mcl_jax.data.prepare.silhouette import SkippedFrameError
from mcl_jax.data.sequences import SequenceRef
from mcl_jax.data.stores.frames import SILHOUETTES, Pixels
from mcl_jax.data.stores.tree import PklSource
from mcl_jax.errors import DataError
from mcl_jax.utils.terminal import count


@dataclasses.dataclass(frozen=True)
class Reader:
    """Reads the sequences of one download; picklable.

    Attributes:
        layout: layout of the download.
        prepared: whether the sequences are pkl files instead of folders of frames.
        skip_damaged: leave out files that cannot be read, like frames without a person.
        file: which pkl file of a folder to take, if it holds several.
        pixels: what the frames are.
    """

    layout: Layout
    prepared: bool
    skip_damaged: bool
    file: str = ""
    pixels: Pixels = SILHOUETTES

    def read(self, sequence: SequenceRef) -> tuple[np.ndarray | None, list[Issue]]:
        """Returns silhouettes uint8 [s, height, width] or None, and the frames left out.

        None means that no frame is usable, or that a file is damaged and `skip_damaged` is not set. Raw
        frames give squares; a prepared sequence is not changed.
        """
        if self.prepared:
            return self._read_pkl(sequence)
        files = self.layout.frames(sequence.location)
        if not files:
            return None, [_issue(sequence, "", why_no_frame(sequence.location))]
        frames: list[np.ndarray] = []
        issues: list[Issue] = []
        for file in files:
            try:
                frames.append(self.layout.to_silhouette(self.layout.cleaning.clean(read_frame(file))))
            except SkippedFrameError as reason:
                issues.append(_issue(sequence, file.name, str(reason)))
            except DataError as error:
                issues.append(self._damage(sequence, file, error))
        if not frames:
            issues.append(_issue(sequence, "", f"0 of {count(len(files), 'frame')} can be used"))
            return None, issues
        if any(issue.damaged for issue in issues):
            return None, issues
        if len(frames) < (minimum := self.layout.least_frames):
            too_short = f"{count(len(frames), 'frame')}, fewer than the minimum of {minimum}"
            return None, [*issues, _issue(sequence, "", too_short)]
        try:
            return self.pixels.check(np.stack(frames), sequence.location), issues
        except DataError as error:
            return None, [*issues, self._damage(sequence, None, error)]

    def _read_pkl(self, sequence: SequenceRef) -> tuple[np.ndarray | None, list[Issue]]:
        try:
            return PklSource(self.file, self.pixels).read(sequence), []
        except DataError as error:
            return None, [self._damage(sequence, None, error)]

    def _damage(self, sequence: SequenceRef, file: Path | None, error: DataError) -> Issue:
        reason = str(error)
        if file is not None and not reason.startswith(str(file)):
            reason = f"{file}: {reason}"
        return _issue(sequence, file.name if file else "", reason, damaged=not self.skip_damaged)


def _issue(sequence: SequenceRef, frame: str, reason: str, damaged: bool = False) -> Issue:
    return Issue(sequence.subject, sequence.condition, sequence.view, frame, reason, damaged)


def job_for(name: str, sequences: Sequence[SequenceRef]) -> Job[tuple[SequenceRef, ...]]:
    """Returns the job that writes these sequences to a file, stamped with their current state on disk.

    Raises:
        DataError: if a sequence has disappeared.
    """
    digest = hashlib.sha256()
    for sequence in sequences:
        try:
            status = Path(sequence.location).stat()
        except OSError as error:
            raise DataError(
                f"{sequence.location}: {error.strerror}; check whether the source is being changed"
            ) from None
        # A folder's time changes with the names in it; its size depends on the file system.
        digest.update(f"{sequence.key}\0{status.st_mtime_ns}\n".encode())
    return Job(name, tuple(sequences), digest.hexdigest()[:16], len(sequences))
