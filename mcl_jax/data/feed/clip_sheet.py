"""Draws a picture of a training batch as the model gets it: sampled, augmented, packed."""

from collections.abc import Mapping

import cv2
import numpy as np

from mcl_jax.data.feed.packing import TrainBatch
from mcl_jax.utils.sheets import labelled

_LINE = 128  # grey level between clips


def clip_sheet(
    batch: TrainBatch,
    *,
    clips: int = 24,
    frames: int = 16,
    names: Mapping[tuple[int, int], str] | None = None,
    one: int = 255,
) -> np.ndarray:
    """Draws the first clips of a batch, one below the other, with their first frames side by side.

    Args:
        batch: from a `TrainLoader`.
        clips: maximum number of clips.
        frames: maximum number of frames of each clip.
        names: row and segment → name of a sequence, from `TrainLoader.places`, to write beside its clip,
            with frame numbers above; None for a sheet without text.
        one: pixel that a model gets as 1; below 255, as in maps of body parts, the largest is drawn white.

    Returns:
        uint8 [height, width]; black where a clip has fewer frames.
    """
    _, _, height, width = batch["frames"].shape
    brightness = 1 if one == 255 else 255 // max(int(batch["frames"].max()), 1)
    rows, labels = [], []
    for row, segment in np.argwhere(batch["labels"] >= 0)[:clips]:
        clip = batch["frames"][row][batch["segment_ids"][row] == segment][:frames]
        line = np.zeros((height, frames, width), np.uint8)
        line[:, : len(clip)] = clip.transpose(1, 0, 2) * np.uint8(brightness)
        labels.append((names or {}).get((int(row), int(segment)), ""))
        rows += [line.reshape(height, -1), np.full((1, frames * width), _LINE, np.uint8)]
    sheet = np.concatenate(rows)
    return sheet if names is None else labelled(sheet, labels, [str(i + 1) for i in range(frames)])


def encode_png(image: np.ndarray) -> bytes:
    """Encodes a grey image [height, width] as PNG."""
    return cv2.imencode(".png", image)[1].tobytes()
