"""Reads walks from bytes that a client sent: .npy, .npz, pkl, or a zip file of PNG frames.

Nothing in them is executed, and sizes are checked before anything is unpacked; see docs/security.md.
"""

import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import PurePosixPath

import numpy as np

from mcl_jax.data.feed.sampling import MAX_TEST_FRAMES
from mcl_jax.data.prepare.silhouette import MAX_PNG_BYTES, decode_png
from mcl_jax.data.prepare.single_walk import walk_of_frames
from mcl_jax.data.stores.array_pickle import NotAnArrayError, read_array
from mcl_jax.data.stores.frames import check_frames
from mcl_jax.errors import DataError
from mcl_jax.serving.limits import Limits, RequestError
from mcl_jax.utils.files import is_junk
from mcl_jax.utils.npz import read_npy, read_npz_file
from mcl_jax.utils.terminal import printable, shortened

Walks = list[tuple[str, np.ndarray]]
"""Name and silhouettes uint8 [s, 64, 64 or 44] of each walk."""

_NPY, _ZIP, _PICKLE = b"\x93NUMPY", b"PK", b"\x80"
_ENTRY = b"PK\x01\x02"  # starts each entry of a zip file's directory
_REMEDY = "write it with numpy.save or numpy.savez"
_FORMATS = (
    "send silhouettes uint8 [frames, 64, 64 or 44] as .npy, .npz or pkl, or raw PNG frames in a zip file"
)


def read_walks(content: bytes, name: str, limits: Limits) -> Walks:
    """Returns the walks in a file.

    Args:
        content: the file. Its first bytes say which kind it is. An .npz file has a walk in each of its
            arrays; any other file is one walk.
        name: as the client calls it.
        limits: of the service.

    Raises:
        RequestError: if it is of another kind, or too large.
        DataError: if it is damaged, or has no usable walk.
    """
    name = shortened(printable(name, keep=""), 600)[:100]
    if not content:
        raise DataError(f"{name}: is empty; {_FORMATS}")
    if content.startswith(_NPY):
        walks = [(name, read_npy(content, name, remedy=_REMEDY))]
    elif content.startswith(_ZIP):
        walks = _of_zip(content, name, limits)
    elif content.startswith(_PICKLE):
        walks = [(name, _of_pickle(content, name))]
    else:
        raise RequestError(415, f"{name}: is of an unknown kind; {_FORMATS}")
    return [(walk, _checked(frames, walk, limits)) for walk, frames in walks]


def _checked(frames: np.ndarray, name: str, limits: Limits) -> np.ndarray:
    """Returns the frames of a walk that count."""
    check_frames(frames, name)
    if len(frames) < limits.min_frames:
        raise DataError(
            f"{name}: has {len(frames)} silhouettes, too few to judge; it needs at least {limits.min_frames}"
        )
    return frames[:MAX_TEST_FRAMES]


def _of_pickle(content: bytes, name: str) -> np.ndarray:
    try:
        return read_array(content)
    except NotAnArrayError as error:
        raise DataError(f"{name}: {error}") from None


def _of_zip(content: bytes, name: str, limits: Limits) -> Walks:
    # zipfile makes an object of every entry before any of them can be checked.
    if content.count(_ENTRY) > limits.entries:
        raise RequestError(413, f"{name}: has more than {limits.entries} entries; send fewer at once")
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            infos = [info for info in archive.infolist() if not _is_junk(info)]
            if any(info.filename.lower().endswith(".npy") for info in infos):
                return _of_npz(content, infos, name, limits)
            return [(name, walk_of_frames(_pictures(archive, infos, name, limits), name))]
    except DataError:
        raise
    except RequestError:
        raise
    except Exception as error:  # zipfile and zlib raise many kinds of errors on a damaged file
        detail = " ".join(str(error).split())[:100] or type(error).__name__
        raise DataError(f"{name}: not a readable zip file ({detail})") from None


def _is_junk(info: zipfile.ZipInfo) -> bool:
    return info.is_dir() or any(is_junk(part) for part in PurePosixPath(info.filename).parts)


def _of_npz(content: bytes, infos: list[zipfile.ZipInfo], name: str, limits: Limits) -> Walks:
    if len(infos) > limits.walks:
        raise too_many_walks(limits)
    unpacked = sum(info.file_size for info in infos)
    if unpacked > limits.body_bytes:
        raise RequestError(
            413, f"{name}: unpacks to {unpacked} bytes; the limit is {limits.body_bytes}; send fewer at once"
        )
    arrays = read_npz_file(BytesIO(content), name, None, limit=limits.body_bytes, remedy=_REMEDY)
    label = f"{name}: "
    return [(label + printable(key, keep="")[:100], array) for key, array in arrays.items()]


def too_many_walks(limits: Limits) -> RequestError:
    """Returns the refusal of a request with too many walks."""
    return RequestError(413, f"a request may have {limits.walks} walks; send the others in another one")


def _pictures(
    archive: zipfile.ZipFile, infos: list[zipfile.ZipInfo], name: str, limits: Limits
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields name and pixels of each PNG frame, in the order of their names."""
    frames = sorted(
        (info for info in infos if info.filename.lower().endswith(".png")), key=lambda info: info.filename
    )
    if not frames:
        raise DataError(f"{name}: has no PNG frame and no array; {_FORMATS}")
    folders = {PurePosixPath(info.filename).parent for info in frames}
    if len(folders) > 1:
        raise DataError(f"{name}: has frames in {len(folders)} folders; send a zip file for each walk")
    packed = {info.compress_type for info in frames} - {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
    if packed or sum(info.file_size for info in frames) > limits.body_bytes:
        raise RequestError(413, f"{name}: unpacks to too much; zip the PNG frames without compression")
    pixels = 0
    for info in frames:
        label = f"{name}: {printable(info.filename, keep='')[-100:]}"
        if info.file_size > MAX_PNG_BYTES:
            raise RequestError(413, f"{label}: is larger than a frame can be, {MAX_PNG_BYTES} bytes")
        image = decode_png(archive.read(info), label)
        pixels += image.size
        if pixels > limits.pixels:
            raise RequestError(
                413, f"{name}: its frames have more than {limits.pixels} pixels; scale them down"
            )
        yield label, image
