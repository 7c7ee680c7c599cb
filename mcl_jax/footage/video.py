"""Writes a video file, which appears only when it is complete."""

from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np

from mcl_jax.errors import UserError

CODECS = {".mp4": "mp4v", ".avi": "MJPG"}
"""Ending of a file name → codec: MPEG-4 and motion JPEG, which OpenCV has on every system."""


class VideoFile:
    """A video file to write to; a context manager.

    Args:
        path: the file; its name ends in one of CODECS.
        rate: frames per second.

    Raises:
        UserError: its name has another ending.
    """

    def __init__(self, path: Path, rate: float) -> None:
        if path.suffix not in CODECS:
            raise UserError(f"{path}: a video's name ends in {' or '.join(CODECS)}")
        self._path, self._rate = path, rate
        self._temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
        self._writer: cv2.VideoWriter | None = None
        self.frames = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.release()
            if kind is None:
                self._temporary.replace(self._path)
            self._temporary.unlink(missing_ok=True)

    def add(self, picture: np.ndarray) -> None:
        """Appends a frame, uint8 [h, w, 3], BGR, of the same size as the others.

        Raises:
            UserError: the file cannot be written.
        """
        if self._writer is None:
            self._writer = self._open(*picture.shape[1::-1])
        self._writer.write(picture)
        self.frames += 1

    def _open(self, columns: int, rows: int) -> cv2.VideoWriter:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._temporary.touch()
        except OSError as error:
            raise UserError(f"{self._path}: cannot be written: {error.strerror}") from None
        fourcc = cv2.VideoWriter.fourcc(*CODECS[self._path.suffix])
        writer = cv2.VideoWriter(str(self._temporary), cv2.CAP_FFMPEG, fourcc, self._rate, (columns, rows))
        if not writer.isOpened():
            raise UserError(f"{self._path}: OpenCV cannot write this kind of video on this machine")
        return writer
