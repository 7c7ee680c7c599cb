from pathlib import Path

import cv2
import numpy as np
import pytest

from mcl_jax.walkers.filming import Passer, film, filmed_frames

SIZE = 480, 270
# One near the camera walks to the left, one farther away to the right; they cross in the middle.
CROSSING = (Passer(0, height=0.7), Passer(1, height=0.5, to_the_right=True, delay=0.3))
ALONE = (Passer(7, height=0.6),)
SMALL = 240, 136


@pytest.fixture(scope="session")
def crossing(tmp_path_factory) -> tuple[Path, list[np.ndarray]]:
    """A video of two who cross, and the truth about each frame: bool [2, h, w]."""
    path = tmp_path_factory.mktemp("film") / "crossing.mp4"
    film(path, CROSSING, size=SIZE)
    return path, [masks for _, masks in filmed_frames(CROSSING, size=SIZE)]


@pytest.fixture(scope="session")
def alone(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("film") / "alone.avi"
    film(path, ALONE, size=SMALL)
    return path


@pytest.fixture(scope="session")
def masks(tmp_path_factory) -> Path:
    """A folder with the true masks of one person."""
    folder = tmp_path_factory.mktemp("masks")
    for number, (_, truth) in enumerate(filmed_frames(ALONE, size=SMALL)):
        cv2.imwrite(str(folder / f"{number:04d}.png"), np.where(truth[0], 255, 0).astype(np.uint8))
    return folder
