"""A gallery: the nearest person, and whether it is below the threshold."""

from pathlib import Path

import numpy as np

from mcl_jax.gallery.calibration import Calibration
from mcl_jax.gallery.gallery import open_gallery
from mcl_jax.gallery.store import LOCK, ModelId
from targets.base import Stored

MODEL = ModelId("runs/a", "0" * 64, 2, 8)
PEOPLE = tuple(f"person {number:03d}" for number in range(12))


def walk_of(number: int) -> np.ndarray:
    return np.random.default_rng(number).standard_normal((2, 2, 8)).astype(np.float32)


class Gallery(Stored):
    harm_is = "bits of its index and embeddings"
    decides_nothing = (LOCK,)

    def make(self, folder: Path) -> None:
        made = open_gallery(folder, create=MODEL)
        for number, person in enumerate(PEOPLE):
            made.enroll(person, walk_of(number), [30, 40])
        made.calibrate(Calibration("metrics.json", "euc", {0.1: 3.0, 0.01: 2.0, 0.001: 1.5}, MODEL.digest))

    def answer(self, folder: Path) -> str:
        gallery = open_gallery(folder)
        gallery.check()
        lines = [str((gallery.people(), gallery.model, gallery.calibration))]
        for number in range(len(PEOPLE)):
            for far in (None, 0.1):
                found = gallery.identify(walk_of(number)[0] + np.float32(0.01), far=far)
                lines.append(str((found.name, found.threshold, found.far, found.matches)))
        return "\n".join(lines)
