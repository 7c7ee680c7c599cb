"""From pictures to masks of what is in front of the background."""

import itertools
from collections.abc import Callable, Iterator

import cv2
import numpy as np

from mcl_jax.errors import DataError
from mcl_jax.footage.network import Network
from mcl_jax.footage.options import FootageOptions
from mcl_jax.footage.sources import Source

CHAPTER = 3000
"""Frames over which an empty scene is learnt before they are segmented: daylight changes in longer ones."""

LIVE_HISTORY = 1500
"""Frames after which a camera's scene is half forgotten."""

_DISC = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
_FOREGROUND = 255  # the subtractors mark shadows with 127


def segment(source: Source, options: FootageOptions) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields every frame with its mask, in order; those of a camera's warm-up without anybody.

    Returns:
        Pictures uint8 [h, w, 3], BGR, and masks uint8 [h, w] of 0 and 255.

    Raises:
        DataError: the source or the network cannot be used, or the segmenter does not fit the source.
    """
    kind = options.segmenter
    if kind == "auto":
        kind = "masks" if source.is_folder else "network" if options.network else "mog2"
    if source.is_folder and kind != "masks":
        raise DataError(f"{source.name}: a folder holds ready masks; leave the segmenter {kind!r} out")
    if kind == "masks":
        return _ready_masks(source)
    if kind == "network":
        assert options.network is not None  # FootageOptions has checked
        network = Network(options.network, options.person_class)
        return ((p, _clean(network.mask(p))) for p in _shrunk(source, options))
    if source.is_camera:
        return _subtract_live(source, options, _subtractor(kind, LIVE_HISTORY))
    return _subtract(source, options, _subtractor(kind, CHAPTER))


def _ready_masks(source: Source) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for picture in source.pictures():
        grey = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        mask = cv2.threshold(grey, 127, 255, cv2.THRESH_BINARY)[1]
        yield cv2.cvtColor(mask, cv2.COLOR_GRAY2BGR), mask


def _shrunk(source: Source, options: FootageOptions) -> Iterator[np.ndarray]:
    for picture in source.pictures():
        rows, columns = picture.shape[:2]
        if rows > options.max_rows:
            size = (max(1, round(columns * options.max_rows / rows)), options.max_rows)
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        yield picture


Subtractor = Callable[[np.ndarray, float], np.ndarray]
"""Takes a picture and how fast to learn from it, −1 for a rate that makes early and late frames count alike;
returns its raw mask."""


def _subtractor(kind: str, history: int) -> Subtractor:
    if kind == "mog2":
        model = cv2.createBackgroundSubtractorMOG2(history=history, varThreshold=16, detectShadows=True)
        # The share of its light that a shadow leaves: less, and dark clothes count as shadows.
        model.setShadowThreshold(0.55)
    else:
        cv2.setRNGSeed(0)  # KNN draws which samples to forget
        model = cv2.createBackgroundSubtractorKNN(history=history, dist2Threshold=400, detectShadows=True)
        model.setShadowThreshold(0.55)

    def subtract(picture: np.ndarray, rate: float) -> np.ndarray:
        found = model.apply(cv2.GaussianBlur(picture, (5, 5), 0), learningRate=rate)
        return cv2.compare(found, _FOREGROUND, cv2.CMP_EQ)

    return subtract


def _subtract(
    source: Source, options: FootageOptions, subtract: Subtractor
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Reads the file twice, the first time a chapter ahead, so that memory does not grow with its length."""
    ahead, behind = _shrunk(source, options), _shrunk(source, options)
    while True:
        learnt = 0
        for picture in itertools.islice(ahead, CHAPTER):
            subtract(picture, -1)
            learnt += 1
        if not learnt:
            return
        for picture in itertools.islice(behind, learnt):
            yield picture, _clean(subtract(picture, 1 / CHAPTER))


def _subtract_live(
    source: Source, options: FootageOptions, subtract: Subtractor
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for number, picture in enumerate(_shrunk(source, options)):
        if number < options.warm_up:
            subtract(picture, -1)
            yield picture, np.zeros(picture.shape[:2], np.uint8)
        else:
            yield picture, _clean(subtract(picture, 1 / LIVE_HISTORY))


def _clean(mask: np.ndarray) -> np.ndarray:
    """Drops specks and fills small holes."""
    mask = cv2.medianBlur(mask, 5)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, _DISC)  # ropes, wires
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, _DISC)
    # What is open between the legs is no hole; what is enclosed and small is a segmenter's mistake.
    outlines, levels = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if levels is not None:
        for outline, (_, _, _, parent) in zip(outlines, levels[0], strict=True):
            if parent >= 0 and cv2.contourArea(outline) < 0.02 * cv2.contourArea(outlines[parent]):
                cv2.drawContours(mask, [outline], -1, 255, cv2.FILLED)
    return mask
