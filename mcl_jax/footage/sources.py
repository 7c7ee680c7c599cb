"""Sources of pictures: a video file, a camera, or a folder of masks."""

import contextlib
import dataclasses
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import cv2
import numpy as np

from mcl_jax.data.prepare.silhouette import MAX_PIXELS, MAX_SIDE, read_png
from mcl_jax.errors import DataError
from mcl_jax.utils.files import is_junk

# Silences FFmpeg's lines about unreadable files; errors here say more. OpenCV reads this only once.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

# FFmpeg goes by content, not by name, and a playlist (HLS, concat, DASH, SDP) makes it open other files and
# addresses. So it may use only containers that hold a whole video, and only the file protocol.
_FORMATS = (
    "mov,avi,matroska,webm,mpegts,mpeg,mpegvideo,m4v,h264,hevc,flv,asf,ogg,mxf,ivf,yuv4mpegpipe,dv,mjpeg"
)
_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_CONFINED = f"format_whitelist;{_FORMATS}|protocol_whitelist;file"


@dataclasses.dataclass(frozen=True)
class Source:
    """Footage to read: a video or a folder, which can be read again, or a camera, which cannot.

    Attributes:
        name: for messages.
        place: a file, a folder, or the index of a camera.
        limit: number of frames to read; all if None.
    """

    name: str
    place: Path | int
    limit: int | None

    @property
    def is_camera(self) -> bool:
        """Whether it is a camera: live, without an end, and read only once."""
        return isinstance(self.place, int)

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of masks."""
        return isinstance(self.place, Path) and self.place.is_dir()

    def clock(self) -> tuple[float, int]:
        """Returns the frame rate and the number of frames that the file claims; 25 and 0 if unknown.

        Raises:
            DataError: it cannot be opened.
        """
        if self.is_camera or self.is_folder:
            return 25.0, 0
        capture = _open(self.place, self.name)
        rate, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        capture.release()
        return rate if 1 <= rate <= 240 else 25.0, max(0, int(count))

    def pictures(self) -> Generator[np.ndarray]:
        """Yields the frames in order: uint8 [h, w, 3], BGR; [h, w] for a folder.

        Raises:
            DataError: it cannot be opened, is empty, a picture is damaged or of another size than the first,
                or the camera is gone.
        """
        if isinstance(self.place, Path) and self.place.is_dir():
            pictures = _read_masks(self.place)
        else:
            pictures = self._capture()
        shape: tuple[int, ...] | None = None
        with contextlib.closing(pictures):
            for number, picture in enumerate(pictures):
                if number == self.limit:
                    return
                shape = shape or picture.shape
                if picture.shape != shape:
                    raise DataError(
                        f"{self.name}: frame {number} has {_size(picture.shape)} pixels, those before it "
                        f"{_size(shape)}; footage must have one size, so cut it there"
                    )
                yield picture
        if shape is None:
            raise DataError(f"{self.name}: has no pictures")

    def _capture(self) -> Generator[np.ndarray]:
        capture = _open(self.place, self.name)
        number = 0
        try:
            width, height = (capture.get(p) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
            if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
                raise DataError(
                    f"{self.name}: pictures of {width:.0f}×{height:.0f} pixels; at most {MAX_SIDE} a side "
                    f"and {MAX_PIXELS} in all; scale the video down"
                )
            while True:
                try:
                    found, picture = capture.read()
                except cv2.error:
                    raise DataError(f"{self.name}: frame {number} is damaged; save the video again") from None
                if not found:
                    break
                yield picture
                number += 1
        finally:
            capture.release()
        if self.is_camera:
            raise DataError(f"{self.name}: is gone after {number} frames; plug it in and start again")


def open_source(source: str | Path | int, limit: int | None) -> Source:
    """Opens footage by its name.

    Args:
        source: a video file, a folder of PNG masks, or the index of a camera, as an integer or as text.
        limit: how many frames to read; all if None.

    Raises:
        DataError: there is no such file.
    """
    if isinstance(source, int):
        return Source(f"camera {source}", source, limit)
    path = Path(source)
    if str(source).isdecimal() and not path.exists():
        return Source(f"camera {source}", int(str(source)), limit)
    if not path.exists():
        raise DataError(f"{path}: no such video or folder; name a camera by its index, such as 0")
    if not path.is_dir() and not path.is_file():
        raise DataError(f"{path}: neither a file nor a folder")
    return Source(str(path), path, limit)


def _open(place: Path | int, name: str) -> cv2.VideoCapture:
    with _quiet():
        if isinstance(place, int):
            capture = cv2.VideoCapture(place)
        else:
            # An absolute path, since FFmpeg would take some names for addresses.
            with _confined():
                capture = cv2.VideoCapture(str(place.resolve()), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        if isinstance(place, int):
            raise DataError(f"{name}: cannot be opened; is it plugged in, and not in use elsewhere?")
        raise DataError(
            f"{name}: cannot be opened as a video; it is damaged, cut off, or in an unknown format; "
            "instead of a playlist, give the videos themselves"
        )
    return capture


@contextlib.contextmanager
def _confined() -> Iterator[None]:
    """Sets FFmpeg's options for untrusted files, before any options that the user has set."""
    given = os.environ.get(_OPTIONS)
    os.environ[_OPTIONS] = _CONFINED if given is None else f"{_CONFINED}|{given}"
    try:
        yield
    finally:
        if given is None:
            del os.environ[_OPTIONS]
        else:
            os.environ[_OPTIONS] = given


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides OpenCV's own lines on stderr."""
    logging = cv2.utils.logging
    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(level)


def _read_masks(folder: Path) -> Generator[np.ndarray]:
    found = (path for path in folder.iterdir() if not is_junk(path.name))
    paths = sorted(path for path in found if path.suffix.lower() == ".png")
    if not paths:
        raise DataError(
            f"{folder}: has no PNG files; it must hold the masks of one video, one PNG per frame; "
            "for a tree of folders use mcl-jax prepare tree"
        )
    yield from map(read_png, paths)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}×{shape[0]}"
