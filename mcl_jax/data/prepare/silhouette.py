"""Cuts one raw PNG frame to a silhouette of 64×64 pixels, as the reference does."""

import contextlib
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from mcl_jax.errors import DataError
from mcl_jax.utils.files import read_bounded

SIZE = 64

MIN_PIXEL_SUM = 10_000
"""Frames whose pixels add up to this or less show nobody."""

MAX_SIDE, MAX_PIXELS = 8192, 2**24
"""Of a raw frame. Decoded, in colour and 16 bits, that is 128 MiB; a frame of 4K video is half as large."""

MAX_PNG_BYTES = 2**25

_MAX_DEFLATION = 1032  # times as many bytes: the most that deflate can do
_HARMLESS = 2**26  # bytes, unpacked in a tenth of a second

_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_MEND = "download the file again, or move it away to do without the frame"


class SkippedFrameError(Exception):
    """The frame is sound but shows no usable person; the message is the reason."""


def read_png(path: Path) -> np.ndarray:
    """Reads a grey 8-bit PNG, uint8 [h, w].

    Images stored in colour are read if their channels are equal, and with an opaque alpha channel: some tools
    save masks so, and no decision about colour is needed to undo it.

    Raises:
        DataError: if the file is missing, empty, too large, damaged, in colour, transparent or of 16 bits.
    """
    try:
        content = read_bounded(path, MAX_PNG_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; {_MEND}") from None
    return decode_png(content, str(path))


def decode_png(content: bytes, path: str) -> np.ndarray:
    """Returns the pixels of a grey 8-bit PNG, uint8 [h, w]; see `read_png`.

    Args:
        content: the file.
        path: its name, for messages.

    Raises:
        DataError: as of `read_png`.
    """
    if not content:
        raise DataError(f"{path}: the file is empty (0 bytes); {_MEND}")
    # OpenCV decodes any format, and prints lines of its own about a PNG that was cut off.
    if not content.startswith(_PNG_START):
        raise DataError(f"{path}: not a PNG file; {_MEND}")
    _check_size(content, path)
    image = None
    if _PNG_END in content:
        with contextlib.suppress(cv2.error):  # of a header that promises too much
            image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise DataError(f"{path}: the PNG is damaged or cut off; {_MEND}")
    if image.dtype != np.uint8:
        raise DataError(f"{path}: a PNG of {image.dtype} pixels; convert it to 8-bit grey")
    return image if image.ndim == 2 else _grey(image, path)


def _check_size(content: bytes, path: str) -> None:
    """Refuses a frame that its header says is huge, before the decoder makes room for it."""
    header = content[len(_PNG_START) :][:16]
    if len(header) < 16 or header[4:8] != b"IHDR":
        raise DataError(f"{path}: the PNG is damaged or cut off; {_MEND}")
    width, height = struct.unpack(">II", header[8:])
    if not width * height:
        raise DataError(f"{path}: a PNG of {width}×{height} pixels; {_MEND}")
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise DataError(
            f"{path}: a PNG of {width}×{height} pixels; a frame has at most {MAX_SIDE} a side and "
            f"{MAX_PIXELS} in all; {_MEND}"
        )
    # Eight bytes are the most of a pixel, and of what its row adds, interlaced too.
    _check_unpacked(content, 8 * (width + 2) * (height + 2), path)


def _check_unpacked(content: bytes, limit: int, path: str) -> None:
    """Refuses a frame whose pixels unpack to more than `limit` bytes: the decoder would unpack them all."""
    if len(content) * _MAX_DEFLATION <= max(limit, _HARMLESS):
        return
    inflater, left = zlib.decompressobj(), limit
    with contextlib.suppress(zlib.error):  # of what is damaged, which the decoder will find
        for packed in _pixel_chunks(content):
            while packed and not inflater.eof:
                left -= len(inflater.decompress(packed, 2**20))
                packed = inflater.unconsumed_tail
                if left < 0:
                    raise DataError(f"{path}: a PNG that unpacks to more bytes than its pixels take; {_MEND}")


def _pixel_chunks(content: bytes) -> Iterator[bytes]:
    place = len(_PNG_START)
    while place + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        if kind == b"IDAT":
            yield content[place + 8 : place + 8 + length]
        place += 12 + length


def _grey(image: np.ndarray, path: str) -> np.ndarray:
    grey = np.ascontiguousarray(image[..., 0])
    if image.shape[2] == 4 and (image[..., 3] != 255).any():
        raise DataError(f"{path}: the PNG is transparent in places; save it without alpha channel")
    if (image[..., 1:3] != grey[..., None]).any():
        raise DataError(f"{path}: a colour PNG, not a silhouette; check --src, or convert it to grey")
    return grey


def normalize(
    image: np.ndarray, *, interpolation: int = cv2.INTER_CUBIC, nobody: int = MIN_PIXEL_SUM
) -> np.ndarray:
    """Scales the person in a raw frame to full height and cuts 64 columns about their centre of mass.

    Args:
        image: uint8 [h, w], white on black.
        interpolation: of the scaling, as of `cv2.resize`.
        nobody: a frame whose pixels add up to this or less shows nobody.

    Returns:
        uint8 [64, 64].

    Raises:
        SkippedFrameError: if there is no person, or no frame can be made of them.
    """
    if int(image.sum(dtype=np.int64)) <= nobody:
        raise SkippedFrameError(f"pixel sum of at most {nobody}: nobody to be seen")
    rows = np.flatnonzero(image.any(axis=1))
    person = image[rows[0] : rows[-1] + 1]
    height, width = person.shape
    scaled_width = SIZE * width // height
    if scaled_width == 0:
        raise SkippedFrameError(f"{height}×{width} pixels: less than one column at height {SIZE}")
    person = cv2.resize(person, (scaled_width, SIZE), interpolation=interpolation)

    mass = person.sum(axis=0, dtype=np.int64).cumsum()
    # The first column past half of the mass; 0 if that is the first one, or if there is no mass.
    center = int(np.argmax(2 * mass > mass[-1]))
    if center == 0:
        raise SkippedFrameError("no centre: half of the person is in the first column")
    left = center - SIZE // 2
    if left <= 0 or center + SIZE // 2 >= scaled_width:
        person = np.pad(person, ((0, 0), (SIZE // 2, SIZE // 2)))
        left += SIZE // 2
    return np.ascontiguousarray(person[:, left : left + SIZE])


def scale(image: np.ndarray) -> np.ndarray:
    """Returns a frame in which the person has full height already, uint8 [64, 64]."""
    return image if image.shape == (SIZE, SIZE) else cv2.resize(image, (SIZE, SIZE))


def keep(image: np.ndarray) -> np.ndarray:
    """Returns a frame [64, 64] that comes ready-made as it is.

    Raises:
        DataError: if it is of another size.
    """
    if image.shape != (SIZE, SIZE):
        raise DataError(f"{image.shape[0]}×{image.shape[1]} pixels, expected {SIZE}×{SIZE}; check --src")
    return image
