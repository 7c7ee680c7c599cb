"""Fast reader for the usual pickle of a silhouette sequence.

Training reads hundreds of them a second. Pickle writes every C-contiguous uint8 [s, h, w] with the same
opcodes, so only shape, size and bytes differ. A file that differs in anything else is read more slowly by
`array_pickle`, which returns the same array.
"""

import math
import re

import numpy as np

_NUMBER = rb"(?:K.|M..|J....)"
_WIDTHS = {ord("K"): 1, ord("M"): 2, ord("J"): 4}
_SHAPE = rb"(?P<shape>" + 3 * _NUMBER + rb")\x87"
_FRAME = rb"(?:\x95(?P<frame>.{8}))"
_BYTES = rb"(?:B(?P<size>....)|\x96(?P<long_size>.{8}))"
_DTYPE_STATE = rb"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t"


def _text(*choices: str) -> bytes:
    """Returns a pattern for the opcodes that put one of these texts into the memo (SHORT_BINUNICODE)."""
    spelled = (b"\x8c" + bytes([len(text)]) + re.escape(text.encode()) for text in choices)
    return b"(?:" + b"|".join(spelled) + rb")\x94"


_DTYPE = rb"\x8c\x05dtype\x94\x93\x94" + _text("u1") + rb"\x89\x88\x87\x94R\x94\(K\x03" + _text("|")
_DTYPE += _DTYPE_STATE + rb"\x94b"

# Protocol → patterns of the bytes before the pixels and after them.
_LAYOUTS = {
    3: (
        rb"\x80\x03cnumpy\._?core\.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nq\x01K\x00\x85q\x02C\x01bq\x03"
        rb"\x87q\x04Rq\x05\(K\x01"
        + _SHAPE
        + rb"q\x06cnumpy\ndtype\nq\x07X\x02\x00\x00\x00u1q\x08\x89\x88\x87q\tRq\n"
        rb"\(K\x03X\x01\x00\x00\x00\|q\x0b" + _DTYPE_STATE + rb"q\x0cb\x89" + _BYTES,
        rb"q\rtq\x0eb\.",
    ),
    4: (
        rb"\x80\x04"
        + _FRAME
        + _text("numpy.core.multiarray", "numpy._core.multiarray")
        + _text("_reconstruct")
        + rb"\x93\x94"
        + _text("numpy")
        + _text("ndarray")
        + rb"\x93\x94K\x00\x85\x94C\x01b\x94\x87\x94R\x94\(K\x01"
        + _SHAPE
        + rb"\x94h\x03"
        + _DTYPE
        + rb"\x89"
        + _BYTES,
        _FRAME + rb"?\x94t\x94b\.",
    ),
    5: (
        rb"\x80\x05"
        + _FRAME
        + _text("numpy.core.numeric", "numpy._core.numeric")
        + _text("_frombuffer")
        + rb"\x93\x94\("
        + _BYTES,
        _FRAME + rb"?\x94" + _text("numpy") + _DTYPE + _SHAPE + rb"\x94\x8c\x01C\x94t\x94R\x94\.",
    ),
}
_PATTERNS = {
    protocol: (re.compile(before, re.DOTALL), re.compile(after, re.DOTALL))
    for protocol, (before, after) in _LAYOUTS.items()
}


def read_silhouettes(data: bytes) -> np.ndarray | None:
    """Returns the array uint8 [s, h, w] in a pickle, as a view of `data`; None if it has another form."""
    patterns = _PATTERNS.get(data[1]) if len(data) > 1 else None
    if patterns is None:
        return None
    head = patterns[0].match(data)
    if head is None:
        return None
    size = int.from_bytes(head["size"] or head["long_size"], "little")
    if size > len(data):
        return None
    tail = patterns[1].fullmatch(data, head.end() + size)
    if tail is None or not (_frame_fits(head, data) and _frame_fits(tail, data)):
        return None
    shape = _numbers((head if data[1] < 5 else tail)["shape"])
    if min(shape) < 0 or shape[0] * shape[1] * shape[2] != size:
        return None
    return np.frombuffer(data, np.uint8, size, head.end()).reshape(shape)


MAX_AROUND = 512
"""Such a pickle has fewer bytes than this before its pixels, and fewer after them."""


def shape_of(head: bytes, tail: bytes, size: int) -> tuple[int, ...] | None:
    """Returns the shape of a pickle's array from its two ends; None if it has another form or is cut off.

    Args:
        head: its first `MAX_AROUND` bytes.
        tail: its last `MAX_AROUND` bytes.
        size: its size in bytes.
    """
    patterns = _PATTERNS.get(head[1]) if len(head) > 1 else None
    before = patterns[0].match(head) if patterns else None
    if patterns is None or before is None:
        return None
    pixels = int.from_bytes(before["size"] or before["long_size"], "little")
    rest = size - before.end() - pixels
    if not 0 < rest <= len(tail):
        return None
    after = patterns[1].fullmatch(tail, len(tail) - rest)
    if after is None:
        return None
    shape = tuple(_numbers((before if head[1] < 5 else after)["shape"]))
    return shape if min(shape) >= 0 and math.prod(shape) == pixels else None


def _frame_fits(match: re.Match[bytes], data: bytes) -> bool:
    length = match.groupdict().get("frame")
    return length is None or int.from_bytes(length, "little") <= len(data) - match.end("frame")


def _numbers(opcodes: bytes) -> list[int]:
    numbers, place = [], 0
    while place < len(opcodes):
        end = place + 1 + _WIDTHS[opcodes[place]]
        numbers.append(int.from_bytes(opcodes[place + 1 : end], "little", signed=opcodes[place] == ord("J")))
        place = end
    return numbers
