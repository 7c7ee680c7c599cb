"""Pictures of an explanation: silhouettes painted by part or by pixel, and maps of shares."""

import cv2
import numpy as np

from mcl_jax.evaluation import colours
from mcl_jax.evaluation.page.templating import picture

SCALE = 4  # pixels of a picture for one of a silhouette
_WHITE = 128
_GAP = 4  # columns between two silhouettes of a film
_DIM = 0.3
_STEPS = 256
_HEAT = np.array([tuple(bytes.fromhex(colours.heat(i / (_STEPS - 1))[1:])) for i in range(_STEPS)], np.uint8)
_INK = np.array(tuple(bytes.fromhex(colours.INK[1:])), np.uint8)


def painted(frames: np.ndarray, heat: np.ndarray, *, all_pixels: bool) -> str:
    """Returns a film of silhouettes with outlines, side by side, painted on the scale of heat maps.

    Args:
        frames: uint8 [n, h, w].
        heat: place on the scale of each pixel, 0 to 1, that broadcasts to [n, h, w].
        all_pixels: whether what lies outside of a person is painted, too.
    """
    sheets = []
    for frame, shares in zip(frames, np.broadcast_to(heat, frames.shape), strict=True):
        inside = _enlarged((frame >= _WHITE).astype(np.uint8))
        colour = _coloured(_enlarged(np.ascontiguousarray(shares, np.float32)))
        if not all_pixels:
            colour[inside == 0] = 255
        outline = cv2.dilate(inside, np.ones((3, 3), np.uint8)) - inside
        colour[outline > 0] = _INK
        sheets.append(np.pad(colour, ((0, 0), (0, _GAP), (0, 0)), constant_values=255))
    return _png(np.concatenate(sheets, axis=1)[:, :-_GAP])


def shaded(frame: np.ndarray, top: float, bottom: float) -> str:
    """Returns a silhouette that is dim outside of a strip.

    Args:
        frame: uint8 [h, w].
        top: upper edge of the strip, as a share of the height.
        bottom: its lower edge.
    """
    rows = (np.arange(len(frame)) + 0.5) / len(frame)
    light = np.where((rows >= top) & (rows < bottom), 1, _DIM)[:, None]
    grey = (frame * light).round().astype(np.uint8)
    grey = np.maximum(grey, np.where((rows >= top) & (rows < bottom), 48, 0)[:, None].astype(np.uint8))
    return _png(np.repeat(grey[..., None], 3, axis=2))


def heat_picture(shares: np.ndarray) -> str:
    """Returns a map of one pixel for each number, 0 to 1."""
    return _png(_coloured(shares))


def _enlarged(x: np.ndarray) -> np.ndarray:
    return x.repeat(SCALE, axis=0).repeat(SCALE, axis=1)


def _coloured(shares: np.ndarray) -> np.ndarray:
    return _HEAT[(np.clip(shares, 0, 1) * (_STEPS - 1)).round().astype(int)]


def _png(rgb: np.ndarray) -> str:
    _, content = cv2.imencode(".png", np.ascontiguousarray(rgb[..., ::-1]))
    return picture(content.tobytes())
