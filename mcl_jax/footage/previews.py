"""Previews of extracted walks: a video with everybody's outline, and a sheet of silhouettes."""

import colorsys
from pathlib import Path

import cv2
import numpy as np

from mcl_jax.data.prepare.silhouette import SIZE
from mcl_jax.footage.extraction import Scene
from mcl_jax.footage.walks import Rejection, Track
from mcl_jax.utils.files import write_atomically

SHOWN = 12
"""Number of silhouettes of each walk on the sheet."""

_GREY, _WHITE = (160, 160, 160), (255, 255, 255)
_FONT, _LINE = cv2.FONT_HERSHEY_SIMPLEX, 18


def colour_of(name: str) -> tuple[int, int, int]:
    """Returns a colour of its own for each person, BGR."""
    number = int(name.rpartition("-")[2])
    red, green, blue = colorsys.hsv_to_rgb(number * 0.61803 % 1, 0.85, 1.0)  # the golden ratio spreads them
    return round(255 * blue), round(255 * green), round(255 * red)


def draw_scene(scene: Scene) -> np.ndarray:
    """Returns the picture, uint8 [h, w, 3], with outlines and names.

    A person seen whole has a thick outline, a person cut by the edge a thin one. A person who is hidden, or
    joined to others, has a box at the expected place. Possible noise is grey.
    """
    picture = scene.picture.copy()
    for name, sighting in scene.people:
        colour = colour_of(name) if name else _GREY
        left, top = round(sighting.box.left), round(sighting.box.top)
        if sighting.blob is None:
            corner = round(sighting.box.right), round(sighting.box.foot)
            cv2.rectangle(picture, (left, top), corner, colour, 1)
        else:
            outlines, _ = cv2.findContours(sighting.blob.mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
            thickness = 2 if sighting.state == "sound" else 1
            cv2.drawContours(picture, outlines, -1, colour, thickness, offset=(left, top))
        if name:
            _write(picture, name.rpartition("-")[2], (left, max(14, top - 4)), colour)
    _write(picture, str(scene.frame), (4, picture.shape[0] - 6), _WHITE)
    return picture


class ContactSheet:
    """A sheet with a row for each walk (silhouettes, name, quality) and a list of the walks left out."""

    def __init__(self) -> None:
        self._walks: list[np.ndarray] = []
        self._rejected: list[str] = []

    def add(self, walk: Track | Rejection) -> None:
        """Adds a walk, or one that was left out."""
        quality = walk.quality
        if isinstance(walk, Rejection):
            self._rejected.append(f"{walk.name}: {walk.reason}")
            return
        text = (
            f"{walk.name}: frames {walk.frames[0]} to {walk.frames[-1]}, {quality.frames} silhouettes, "
            f"{quality.border_cut:.0%} cut by the edge, {quality.broken:.0%} broken"
        )
        shown = np.unique(np.linspace(0, len(walk.silhouettes) - 1, SHOWN).round().astype(int))
        row = np.zeros((SIZE, SHOWN * SIZE), np.uint8)
        row[:, : len(shown) * SIZE] = np.hstack(list(walk.silhouettes[shown]))
        self._walks.append(np.vstack([_line(text, colour_of(walk.name)), _colour(row)]))

    def write(self, path: Path) -> None:
        """Writes the sheet as a PNG.

        Raises:
            UserError: it cannot be written.
        """
        lines = [_line(text, _GREY) for text in self._rejected]
        sheet = np.vstack([*self._walks, *lines] or [_line("nobody", _GREY)])
        write_atomically(path, cv2.imencode(".png", sheet)[1].tobytes())


def _colour(grey: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)


def _line(text: str, colour: tuple[int, int, int]) -> np.ndarray:
    line = np.zeros((_LINE, SHOWN * SIZE, 3), np.uint8)
    _write(line, text, (4, 13), colour)
    return line


def _write(picture: np.ndarray, text: str, place: tuple[int, int], colour: tuple[int, int, int]) -> None:
    cv2.putText(picture, text, place, _FONT, 0.42, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(picture, text, place, _FONT, 0.42, colour, 1, cv2.LINE_AA)
