"""Reads a raw frame from its file, a PNG or a JPEG."""

import contextlib
import struct
from pathlib import Path

import cv2
import numpy as np

from mcl_jax.data.prepare.silhouette import MAX_PIXELS, MAX_PNG_BYTES, MAX_SIDE, read_png
from mcl_jax.errors import DataError
from mcl_jax.utils.files import read_bounded

JPEG_ENDINGS = (".jpg", ".jpeg")

_START, _END = b"\xff\xd8", b"\xff\xd9"
_BASELINE = (0xC0, 0xC1)  # markers of a frame that is decoded in one pass
_OTHER_FRAMES = {*range(0xC0, 0xD0)} - {*_BASELINE, 0xC4, 0xC8, 0xCC}
_ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a segment
_MAX_COLOUR = 32  # max. difference between the channels of a grey picture stored in colour
_REMEDY = "download the file again, or move it away to leave the frame out"


def read_frame(path: Path) -> np.ndarray:
    """Reads a grey 8-bit frame, uint8 [h, w].

    Raises:
        DataError: as `read_png` and `read_jpeg`.
    """
    return read_jpeg(path) if path.suffix.lower() in JPEG_ENDINGS else read_png(path)


def read_jpeg(path: Path) -> np.ndarray:
    """Reads a grey 8-bit JPEG, uint8 [h, w].

    Pictures stored in colour are read if their channels differ only slightly, as after compression.

    Raises:
        DataError: if the file is missing, empty, too large, damaged, in colour, or not a baseline JPEG.
    """
    try:
        content = read_bounded(path, MAX_PNG_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; {_REMEDY}") from None
    if not content.startswith(_START):
        raise DataError(f"{path}: not a JPEG file; {_REMEDY}")
    height, width, channels = _header(content, path)
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS or not width * height:
        raise DataError(
            f"{path}: a JPEG of {width}×{height} pixels; a frame has at most {MAX_SIDE} a side and "
            f"{MAX_PIXELS} in all; {_REMEDY}"
        )
    buffer, image, colour = np.frombuffer(content, np.uint8), None, None
    if _END in content:
        with contextlib.suppress(cv2.error):
            image = cv2.imdecode(buffer, cv2.IMREAD_GRAYSCALE)
            colour = cv2.imdecode(buffer, cv2.IMREAD_COLOR) if channels > 1 else None
    if image is None:
        raise DataError(f"{path}: the JPEG is damaged or cut off; {_REMEDY}")
    if colour is not None and int(np.ptp(colour, axis=2).max()) > _MAX_COLOUR:
        raise DataError(f"{path}: a colour JPEG, not a silhouette; check --src, or convert it to grey")
    return image


def _header(content: bytes, path: Path) -> tuple[int, int, int]:
    """Returns height, width and number of channels; the decoder will allocate memory for them."""
    place = len(_START)
    while place + 10 <= len(content) and content[place] == 0xFF:
        kind = content[place + 1]
        if kind in _BASELINE:
            height, width, channels = struct.unpack_from(">HHB", content, place + 5)
            return height, width, channels
        if kind in _OTHER_FRAMES:  # decoded in many passes, each of which may take as long as a whole picture
            raise DataError(f"{path}: not a baseline JPEG; convert it to PNG")
        if kind == 0xFF:
            place += 1
        elif kind in _ALONE:
            place += 2
        else:
            place += 2 + int(struct.unpack_from(">H", content, place + 2)[0])
    raise DataError(f"{path}: the JPEG is damaged or cut off; {_REMEDY}")
