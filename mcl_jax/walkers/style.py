"""Options of the walkers: views, conditions, difficulty, and their random streams."""

import dataclasses
import zlib
from typing import Any

import numpy as np

from mcl_jax.errors import DataError

VIEWS = tuple(f"{degrees:03d}" for degrees in range(0, 181, 18))
CONDITIONS = ("nm-01", "nm-02", "nm-03", "nm-04", "nm-05", "nm-06", "bg-01", "bg-02", "cl-01", "cl-02")


def _knob(default: float, meaning: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": f"{meaning}; 0 to 3"})


@dataclasses.dataclass(frozen=True)
class WalkerStyle:
    """Sets how hard it is to tell the walkers apart; each field scales a calibrated amount, 0 is off.

    Attributes:
        identity_spread: how much bodies and gaits differ between subjects.
        sequence_jitter: how much pace, posture and clothes differ between the sequences of one subject.
        noise: ragged edges, holes, lost limbs, shadows and clutter of the segmenter.
        bag: size of the carried bags and how far they restrain the arm.
        coat: thickness and length of the coats and how far they restrain the arms.
        camera: how far each recording departs from the nominal view, height and distance.
        scene: errors of background subtraction in small pictures.
        scene_share: share of walks with these errors; the others get good masks.
        wardrobe: how much the clothes of one subject differ between sequences.
        everyday: how often outfits, which several walks share, have a coat or a bag; also how little arms
            are bent, and how far people are turned from the view, up to 20 degrees.
        variety: how often outfits have a skirt, and arms hold a telephone or rest in a pocket or behind the
            back; also how far people turn and change their pace while they are filmed.

    Raises:
        DataError: a field is outside 0..3; beyond that, bodies no longer look human.
    """

    identity_spread: float = _knob(1.0, "how much subjects differ in body and gait")
    sequence_jitter: float = _knob(1.0, "how much the sequences of a subject differ")
    noise: float = _knob(1.0, "mistakes of the segmenter")
    bag: float = _knob(1.0, "size of bags")
    coat: float = _knob(1.0, "thickness of coats")
    camera: float = _knob(1.0, "deviation of cameras from their nominal views")
    scene: float = _knob(0.0, "errors of background subtraction")
    scene_share: float = _knob(0.6, "share of walks with errors of background subtraction")
    wardrobe: float = _knob(0.0, "how much the clothes of a subject differ")
    everyday: float = _knob(0.0, "share of walks in everyday coats and with bags")
    variety: float = _knob(0.0, "skirts, busy arms, turns and changes of pace")

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if not 0 <= value <= 3:
                raise DataError(f"WalkerStyle.{name} = {value} is outside 0..3")


def generator(seed: int, *key: int | str) -> np.random.Generator:
    """Returns a random generator for a key, so that draws do not depend on each other.

    `zlib.crc32` turns names into integers: unlike `hash` it is the same in every process.
    """
    words = [part if isinstance(part, int) else zlib.crc32(part.encode()) for part in key]
    return np.random.default_rng([seed, *words])


def bounded_normal(rng: np.random.Generator) -> float:
    """Returns a standard normal number without the far tails, so that nobody is extreme."""
    return float(np.clip(rng.standard_normal(), -2.2, 2.2))
