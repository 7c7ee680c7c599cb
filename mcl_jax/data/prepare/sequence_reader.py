"""Reads one sequence of a download, with a list of the frames left out."""

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


@dataclasses.dataclass(frozen=True)
class Reader:
    """Reads the sequences of one download; picklable.

    Attributes:
        layout: of the download.
        prepared: the sequences are pkl files, not folders of PNGs.
        skip_damaged: leave out files that cannot be read, as frames are that show nobody.
        file: which pkl file of a folder is taken, where it holds several.
        pixels: what the frames are.
    """

    layout: Layout
    prepared: bool
    skip_damaged: bool
    file: str = ""
    pixels: Pixels = SILHOUETTES

    def read(self, sequence: SequenceRef) -> tuple[np.ndarray | None, list[Issue]]:
        """Returns silhouettes uint8 [s, 64, w], and the frames left out.

        There are no silhouettes if nothing remains, or a file is damaged and `skip_damaged` is not set. PNGs
        give w = 64; a prepared sequence is taken as it is.
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
            issues.append(_issue(sequence, "", f"none of its {len(files)} frames can be used"))
            return None, issues
        if any(issue.damaged for issue in issues):
            return None, issues
        if len(frames) < (least := self.layout.least_frames):
            return None, [*issues, _issue(sequence, "", f"{len(frames)} frames, and {least} are the least")]
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
    """Returns the job that writes these sequences to a file, stamped with their present state on disk.

    Raises:
        DataError: if one has gone meanwhile.
    """
    digest = hashlib.sha256()
    for sequence in sequences:
        try:
            status = Path(sequence.location).stat()
        except OSError as error:
            raise DataError(
                f"{sequence.location}: {error.strerror}; has the source changed meanwhile?"
            ) from None
        # A folder's time changes with the names in it; its size is the file system's affair.
        digest.update(f"{sequence.key}\0{status.st_mtime_ns}\n".encode())
    return Job(name, tuple(sequences), digest.hexdigest()[:16], len(sequences))
