"""Reads raw PNG frames and turns them into silhouettes, mostly of 64×64 pixels, like the reference."""

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
"""Frames whose pixels sum to this or less are taken to show nobody."""

MAX_SIDE, MAX_PIXELS = 8192, 2**24
"""Limits of a raw frame: decoded, in colour with 16 bits, 128 MiB; a frame of 4K video is half as large."""

MAX_PNG_BYTES = 2**25

_MAX_DEFLATION = 1032  # the highest ratio of unpacked to packed bytes that deflate can reach
_HARMLESS = 2**26  # bytes that are unpacked in a tenth of a second

_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_REMEDY = "download the file again, or move it away to leave the frame out"


class SkippedFrameError(Exception):
    """The frame is readable but shows no usable person; the message is the reason."""


def read_png(path: Path) -> np.ndarray:
    """Reads a grey 8-bit PNG, uint8 [h, w].

    Images stored in colour are read if their channels are equal and any alpha channel is opaque: some tools
    save masks like this, and converting them to grey loses nothing.

    Raises:
        DataError: if the file is missing, empty, too large, damaged, in colour, transparent or of 16 bits.
    """
    try:
        content = read_bounded(path, MAX_PNG_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; {_REMEDY}") from None
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
        raise DataError(f"{path}: the file is empty (0 bytes); {_REMEDY}")
    # Checked here, because OpenCV decodes other formats too, and prints its own lines about incomplete PNGs.
    if not content.startswith(_PNG_START):
        raise DataError(f"{path}: not a PNG file; {_REMEDY}")
    _check_size(content, path)
    image = None
    if _PNG_END in content:
        with contextlib.suppress(cv2.error):  # raised if the header claims a huge picture
            image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise DataError(f"{path}: the PNG is damaged or cut off; {_REMEDY}")
    if image.dtype != np.uint8:
        raise DataError(f"{path}: a PNG of {image.dtype} pixels; convert it to 8-bit grey")
    return image if image.ndim == 2 else _grey(image, path)


def _check_size(content: bytes, path: str) -> None:
    """Refuses a frame whose header claims a huge size, before the decoder allocates memory for it."""
    header = content[len(_PNG_START) :][:16]
    if len(header) < 16 or header[4:8] != b"IHDR":
        raise DataError(f"{path}: the PNG is damaged or cut off; {_REMEDY}")
    width, height = struct.unpack(">II", header[8:])
    if not width * height:
        raise DataError(f"{path}: a PNG of {width}×{height} pixels; {_REMEDY}")
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise DataError(
            f"{path}: a PNG of {width}×{height} pixels; a frame has at most {MAX_SIDE} a side and "
            f"{MAX_PIXELS} in all; {_REMEDY}"
        )
    # A pixel has up to 8 bytes; the margin of 2 covers filter bytes of rows, also if interlaced.
    _check_unpacked(content, 8 * (width + 2) * (height + 2), path)


def _check_unpacked(content: bytes, limit: int, path: str) -> None:
    """Refuses a frame that unpacks to more than `limit` bytes, because the decoder would unpack it all."""
    if len(content) * _MAX_DEFLATION <= max(limit, _HARMLESS):
        return
    inflater, left = zlib.decompressobj(), limit
    with contextlib.suppress(zlib.error):  # the decoder will report damage
        for packed in _pixel_chunks(content):
            while packed and not inflater.eof:
                left -= len(inflater.decompress(packed, 2**20))
                packed = inflater.unconsumed_tail
                if left < 0:
                    raise DataError(f"{path}: the PNG unpacks to more bytes than its pixels need; {_REMEDY}")


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
    image: np.ndarray,
    *,
    interpolation: int = cv2.INTER_CUBIC,
    nobody: int = MIN_PIXEL_SUM,
    size: int = SIZE,
) -> np.ndarray:
    """Scales the person in a raw frame to full height and cuts a square about their centre of mass.

    Args:
        image: uint8 [h, w], white on black.
        interpolation: interpolation of `cv2.resize`.
        nobody: a frame whose pixels sum to this or less is taken to show nobody.
        size: rows and columns of the result.

    Returns:
        uint8 [size, size].

    Raises:
        SkippedFrameError: if there is no person, or no silhouette can be made of the person.
    """
    if int(image.sum(dtype=np.int64)) <= nobody:
        raise SkippedFrameError(f"the pixels sum to {nobody} or less: no person is visible")
    rows = np.flatnonzero(image.any(axis=1))
    person = image[rows[0] : rows[-1] + 1]
    height, width = person.shape
    scaled_width = size * width // height
    if scaled_width == 0:
        raise SkippedFrameError(f"height × width {height}×{width}: less than one column at height {size}")
    person = cv2.resize(person, (scaled_width, size), interpolation=interpolation)

    mass = person.sum(axis=0, dtype=np.int64).cumsum()
    # The first column at which more than half of the mass is reached; 0 also if there is no mass.
    center = int(np.argmax(2 * mass > mass[-1]))
    if center == 0:
        raise SkippedFrameError("no centre: more than half of the person is in the first column")
    left = center - size // 2
    if left <= 0 or center + size // 2 >= scaled_width:
        person = np.pad(person, ((0, 0), (size // 2, size // 2)))
        left += size // 2
    return np.ascontiguousarray(person[:, left : left + size])


def scale(image: np.ndarray, *, size: int = SIZE) -> np.ndarray:
    """Scales a frame in which the person already has full height to uint8 [size, size]."""
    return image if image.shape == (size, size) else cv2.resize(image, (size, size))


def keep(image: np.ndarray) -> np.ndarray:
    """Returns a frame [64, 64] unchanged, because its publisher has prepared it.

    Raises:
        DataError: if it is of another size.
    """
    if image.shape != (SIZE, SIZE):
        raise DataError(f"{image.shape[1]}×{image.shape[0]} pixels; expected {SIZE}×{SIZE}; check --src")
    return image
