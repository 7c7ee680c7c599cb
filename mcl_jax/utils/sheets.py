"""Writes names beside the rows and above the columns of a sheet of silhouettes."""

from collections.abc import Sequence

import cv2
import numpy as np

from mcl_jax.utils.names import short_name

_FONT, _SIZE, _LINE = cv2.FONT_HERSHEY_SIMPLEX, 0.4, 16
_MOST = 28  # letters of a name
_PAPER, _INK = 32, 255


def labelled(sheet: np.ndarray, rows: Sequence[str], columns: Sequence[str]) -> np.ndarray:
    """Returns a sheet with names of its rows to the left and of its columns above.

    Args:
        sheet: grey picture of equal cells, uint8 [rows · height, columns · width].
        rows: names from above, at least one.
        columns: names from the left, at least one.

    Returns:
        A larger grey picture; the sheet is its lower right part.
    """
    names, heads = ([_shown(text) for text in texts] for texts in (rows, columns))
    margin = max(_width(name) for name in names) + 12
    height, width = len(sheet) / len(rows), sheet.shape[1] / len(columns)
    whole = np.full((len(sheet) + _LINE, margin + sheet.shape[1]), _PAPER, np.uint8)
    whole[_LINE:, margin:] = sheet
    for i, name in enumerate(names):
        _write(whole, name, 6, round(_LINE + (i + 0.5) * height) + 4)
    for i, head in enumerate(heads):
        _write(whole, head, round(margin + (i + 0.5) * width - _width(head) / 2), _LINE - 4)
    return whole


def _shown(name: str) -> str:
    """A name in the letters of the font, which has no others than ASCII."""
    return short_name(name.encode("ascii", "backslashreplace").decode(), _MOST).replace("…", "..")


def _width(text: str) -> int:
    (width, _), _ = cv2.getTextSize(text, _FONT, _SIZE, 1)
    return int(width)


def _write(picture: np.ndarray, text: str, x: int, y: int) -> None:
    cv2.putText(picture, text, (x, y), _FONT, _SIZE, _INK, 1, cv2.LINE_AA)
