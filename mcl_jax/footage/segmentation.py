"""Segments pictures into masks of the foreground."""

import itertools
from collections.abc import Generator

import cv2
import numpy as np

from mcl_jax.errors import DataError
from mcl_jax.footage.network import Network
from mcl_jax.footage.options import FootageOptions
from mcl_jax.footage.sources import Source

CHAPTER = 3000
"""Number of frames from which an empty scene is learnt; over more frames daylight changes."""

LIVE_HISTORY = 1500
"""Number of frames after which a camera's scene is half forgotten."""

_DISC = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
_SCENE_AGE = 25  # number of frames for which a picture of the empty scene can be used to find edges
_FOREGROUND = 255  # the subtractors mark shadows with 127


def segment(source: Source, options: FootageOptions) -> Generator[tuple[np.ndarray, np.ndarray]]:
    """Yields every frame with its mask, in order; masks during a camera's warm-up are empty.

    Returns:
        Pictures uint8 [h, w, 3], BGR, and masks uint8 [h, w] of 0 and 255.

    Raises:
        DataError: the source or the network cannot be used, or the segmenter does not fit the source.
    """
    kind = options.segmenter
    if kind == "auto":
        kind = "masks" if source.is_folder else "network" if options.network else "mog2"
    if source.is_folder and kind != "masks":
        raise DataError(f"{source.name}: a folder holds finished masks; do not give the segmenter {kind!r}")
    if kind == "masks":
        return _ready_masks(source)
    if kind == "network":
        return _by_network(source, options)
    if source.is_camera:
        return _subtract_live(source, options, _Subtractor(kind, LIVE_HISTORY))
    return _subtract(source, options, _Subtractor(kind, CHAPTER))


def _by_network(source: Source, options: FootageOptions) -> Generator[tuple[np.ndarray, np.ndarray]]:
    assert options.network is not None  # FootageOptions has checked
    with Network(options.network, options.person_class) as network:
        for picture in _shrunk(source, options):
            yield picture, _clean(network.mask(picture))


def _ready_masks(source: Source) -> Generator[tuple[np.ndarray, np.ndarray]]:
    for picture in source.pictures():
        grey = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        mask = cv2.threshold(grey, 127, 255, cv2.THRESH_BINARY)[1]
        yield cv2.cvtColor(mask, cv2.COLOR_GRAY2BGR), mask


def _shrunk(source: Source, options: FootageOptions) -> Generator[np.ndarray]:
    for picture in source.pictures():
        rows, columns = picture.shape[:2]
        if rows > options.max_rows:
            size = (max(1, round(columns * options.max_rows / rows)), options.max_rows)
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        yield picture


class _Subtractor:
    """OpenCV's background subtraction, with edges moved to where half of the contrast is reached."""

    def __init__(self, kind: str, history: int) -> None:
        if kind == "mog2":
            self._model: cv2.BackgroundSubtractorMOG2 | cv2.BackgroundSubtractorKNN = (
                cv2.createBackgroundSubtractorMOG2(history=history, varThreshold=16, detectShadows=True)
            )
        else:
            cv2.setRNGSeed(0)  # KNN draws which samples to forget
            self._model = cv2.createBackgroundSubtractorKNN(
                history=history, dist2Threshold=400, detectShadows=True
            )
        # Least share of light that a shadow leaves; with a lower one, dark clothes would count as shadows.
        self._model.setShadowThreshold(0.55)
        self._rate = 1 / history
        self._scene: np.ndarray | None = None
        self._age = 0

    def learn(self, picture: np.ndarray) -> None:
        """Learns a picture of the scene; early and late pictures count alike."""
        self._model.apply(_soft(picture), learningRate=-1)
        self._scene = None

    def mask(self, picture: np.ndarray) -> np.ndarray:
        """Returns the foreground, and slowly continues to learn the scene."""
        soft = _soft(picture)
        found = self._model.apply(soft, learningRate=self._rate)
        if self._scene is None or self._age == _SCENE_AGE:
            self._scene, self._age = self._model.getBackgroundImage(), 0
        self._age += 1
        return _sharpen(
            _clean(np.where(found == _FOREGROUND, 255, 0).astype(np.uint8)),
            cv2.absdiff(soft, self._scene).max(axis=2),
        )


def _soft(picture: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(picture, (5, 5), 0)


def _sharpen(mask: np.ndarray, difference: np.ndarray) -> np.ndarray:
    """Removes the halo: an edge pixel with less than half of its neighbours' contrast is outside."""
    near = cv2.dilate(cv2.bitwise_and(difference, mask), _DISC)
    weak = cv2.compare(difference, near // 2, cv2.CMP_LT)
    rim = cv2.subtract(mask, cv2.erode(mask, _DISC))
    return cv2.subtract(mask, cv2.bitwise_and(rim, weak))


def _subtract(
    source: Source, options: FootageOptions, model: _Subtractor
) -> Generator[tuple[np.ndarray, np.ndarray]]:
    """Subtracts the scene; reads the file twice, one reader a chapter ahead, to bound the memory."""
    ahead, behind = _shrunk(source, options), _shrunk(source, options)
    while True:
        learnt = 0
        for picture in itertools.islice(ahead, CHAPTER):
            model.learn(picture)
            learnt += 1
        if not learnt:
            return
        for picture in itertools.islice(behind, learnt):
            yield picture, model.mask(picture)


def _subtract_live(
    source: Source, options: FootageOptions, model: _Subtractor
) -> Generator[tuple[np.ndarray, np.ndarray]]:
    for number, picture in enumerate(_shrunk(source, options)):
        if number < options.warm_up:
            model.learn(picture)
            yield picture, np.zeros(picture.shape[:2], np.uint8)
        else:
            yield picture, model.mask(picture)


def _clean(mask: np.ndarray) -> np.ndarray:
    """Drops specks and fills small holes."""
    mask = cv2.medianBlur(mask, 5)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, _DISC)  # ropes, wires
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, _DISC)
    # The gap between the legs is open, so it stays; small enclosed holes are mistakes of the segmenter.
    outlines, levels = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if levels is not None:
        for outline, (_, _, _, parent) in zip(outlines, levels[0], strict=True):
            if parent >= 0 and cv2.contourArea(outline) < 0.02 * cv2.contourArea(outlines[parent]):
                cv2.drawContours(mask, [outline], -1, 255, cv2.FILLED)
    return mask
