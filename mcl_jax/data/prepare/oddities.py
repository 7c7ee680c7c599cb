"""Looks at some raw frames before they are prepared, for oddities that spoil silhouettes without an error."""

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import cv2
import numpy as np

from mcl_jax.data.prepare.cleaning import ORDERS
from mcl_jax.data.prepare.frame_file import read_frame
from mcl_jax.data.prepare.layouts import Layout
from mcl_jax.data.prepare.silhouette import keep, scale
from mcl_jax.data.sequences import SequenceRef
from mcl_jax.errors import DataError

_T = TypeVar("_T")
_SEQUENCES, _FRAMES = 64, 8  # looked at: so many walks, and so many frames of each
_WHITE = 128
_WIDENED = 1.1  # times the height of the largest piece
_SECOND = 0.5  # of the area of the largest piece
_GREY = 0.3  # of what is not black; along an edge there is less
_SELDOM = 0.02  # of the frames: a few are in every dataset

REMARKS = {
    "border": "have a mostly white border, so they are inverted or framed: prepare masks of white on black",
    "grey": "have many grey levels, as of JPEG or of soft masks: --threshold=128 makes them black and white",
    "specks": "have specks far from the person, which makes the person smaller: --largest-piece removes them",
    "second": "have a second piece half as large as the first, perhaps a person: --largest-piece removes it",
}


def oddities(layout: Layout, sequences: Sequence[SequenceRef]) -> list[str]:
    """Returns a line for each kind of oddity in an even choice of frames; none for sound ones.

    Frames that cannot be read are left to the preparation itself.
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
            if layout.to_silhouette in (
                keep,
                scale,
            ):  # scaled before: greys, and pieces cut off, are as they came
                found &= {"border"}
            frames += 1
            counts.update(found)
            for kind in found:
                examples.setdefault(kind, f"{sequence.key}/{file.name}")
    lines = [
        f"{counts[kind]} of {frames} frames looked at, such as {examples[kind]}, {text}"
        for kind, text in REMARKS.items()
        if counts[kind] > _SELDOM * frames
    ]
    if unordered:
        lines.append(
            f"{unordered} of {len(chosen)} walks looked at, such as {examples['order']}, have frames whose "
            "numbers are not padded, so that 10 comes before 9: --order=number puts them in the order of time"
        )
    return lines


def remarks(image: np.ndarray) -> set[str]:
    """Returns the keys of `REMARKS` that hold of a raw frame, uint8 [h, w]."""
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
    if count <= 2 or found:  # pieces tell something of clean masks alone
        return found
    pieces = stats[1:]
    largest, second = sorted(pieces, key=lambda piece: -piece[cv2.CC_STAT_AREA])[:2]
    rows = np.flatnonzero(image.any(axis=1))
    if rows[-1] + 1 - rows[0] > _WIDENED * largest[cv2.CC_STAT_HEIGHT]:
        found.add("specks")
    if second[cv2.CC_STAT_AREA] > _SECOND * largest[cv2.CC_STAT_AREA]:
        found.add("second")
    return found


def _spread(values: Sequence[_T], most: int) -> Sequence[_T]:
    """Returns at most so many of the values, evenly spaced."""
    if len(values) <= most:
        return values
    return [values[i] for i in np.linspace(0, len(values) - 1, most).round().astype(int)]
