"""Checks some raw frames before a preparation for faults that would spoil silhouettes without an error."""

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import cv2
import numpy as np

from mcl_jax.data.prepare.cleaning import ORDERS
from mcl_jax.data.prepare.frame_file import read_frame
from mcl_jax.data.prepare.layouts import Layout
from mcl_jax.data.sequences import SequenceRef
from mcl_jax.errors import DataError

_T = TypeVar("_T")
_SEQUENCES, _FRAMES = 64, 8  # number of walks checked, and of frames of each
_WHITE = 128
_WIDENED = 1.1  # times the height of the largest piece
_SECOND = 0.5  # of the area of the largest piece
_GREY = 0.3  # of the pixels that are not black; a clean mask has fewer grey ones, along its edge
_SELDOM = 0.02  # of the frames; every dataset has a few such frames

REMARKS = {
    "border": "have a mostly white border, so they are inverted or framed: use masks of white on black",
    "grey": "have many grey levels, like JPEGs or soft masks: --threshold=128 makes them black and white",
    "specks": "have specks far from the person, which make the person smaller: --largest-piece removes them",
    "second": "have a second piece half as large as the first, perhaps a person: --largest-piece removes it",
}


def oddities(layout: Layout, sequences: Sequence[SequenceRef]) -> list[str]:
    """Returns a line for each kind of fault in some evenly spaced frames; none if they are sound.

    Frames that cannot be read are ignored here; the preparation itself reports them.
    """
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    frames = unordered = 0
    chosen = _spread(sequences, _SEQUENCES)
    for sequence in chosen:
        try:
            files = layout.frames(sequence.location)
        except DataError:
            continue
        names = [file.name for file in files]
        if layout.cleaning.order == "name" and sorted(names, key=ORDERS["number"]) != names:
            unordered += 1
            examples.setdefault("order", sequence.key)
        for file in _spread(files, _FRAMES):
            try:
                found = remarks(layout.cleaning.clean(read_frame(file)))
            except DataError:
                continue
            if layout.scaled:
                found &= {"border"}
            frames += 1
            counts.update(found)
            for kind in found:
                examples.setdefault(kind, f"{sequence.key}/{file.name}")
    lines = [
        f"{counts[kind]} of {frames} frames checked, such as {examples[kind]}, {text}"
        for kind, text in REMARKS.items()
        if counts[kind] > _SELDOM * frames
    ]
    if unordered:
        lines.append(
            f"{unordered} of {len(chosen)} walks checked, such as {examples['order']}, have frames whose "
            "numbers are not padded, so that 10 sorts before 9: --order=number sorts them by number"
        )
    return lines


def remarks(image: np.ndarray) -> set[str]:
    """Returns the keys of `REMARKS` that apply to a raw frame, uint8 [h, w]."""
    found: set[str] = set()
    border = np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])
    lit = np.count_nonzero(image)
    if not lit:
        return found
    if (border >= _WHITE).mean() > 0.5:
        found.add("border")
    if np.count_nonzero((image > 0) & (image < 255)) > _GREY * lit:
        found.add("grey")
    count, _, stats, _ = cv2.connectedComponentsWithStats((image > 0).astype(np.uint8), connectivity=8)
    if count <= 2 or found:  # the number of pieces means something only in clean masks
        return found
    pieces = stats[1:]
    largest, second = sorted(pieces, key=lambda piece: -piece[cv2.CC_STAT_AREA])[:2]
    rows = np.flatnonzero(image.any(axis=1))
    if rows[-1] + 1 - rows[0] > _WIDENED * largest[cv2.CC_STAT_HEIGHT]:
        found.add("specks")
    if second[cv2.CC_STAT_AREA] > _SECOND * largest[cv2.CC_STAT_AREA]:
        found.add("second")
    return found


def _spread(values: Sequence[_T], maximum: int) -> Sequence[_T]:
    """Returns up to `maximum` of the values, evenly spaced."""
    if len(values) <= maximum:
        return values
    return [values[i] for i in np.linspace(0, len(values) - 1, maximum).round().astype(int)]
