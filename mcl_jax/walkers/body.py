"""Body proportions of a walker, as shares of the stature."""

import dataclasses
from typing import Any, Self

import numpy as np

from mcl_jax.walkers.style import WalkerStyle, bounded_normal


def size(mean: float, spread: float, jitter: float = 0.0) -> Any:
    """A positive trait: `spread` and `jitter` are relative, between subjects and between sequences."""
    return dataclasses.field(default=mean, metadata={"spread": spread, "jitter": jitter, "relative": True})


def shift(mean: float, spread: float, jitter: float = 0.0) -> Any:
    """A trait that may be negative: `spread` and `jitter` are absolute, in the trait's own unit."""
    return dataclasses.field(default=mean, metadata={"spread": spread, "jitter": jitter, "relative": False})


class Traits:
    """Base of the dataclasses whose fields are `size` or `shift`: draws one instance."""

    @classmethod
    def draw(cls, subject: np.random.Generator, sequence: np.random.Generator, style: WalkerStyle) -> Self:
        """Draw every trait: its mean, plus the subject's deviation, plus the sequence's."""
        values = {}
        for field in dataclasses.fields(cls):  # type: ignore[arg-type] # its subclasses are dataclasses
            own = style.identity_spread * field.metadata["spread"] * bounded_normal(subject)
            own += style.sequence_jitter * field.metadata["jitter"] * bounded_normal(sequence)
            values[field.name] = (
                field.default * np.exp(own) if field.metadata["relative"] else field.default + own
            )
        return cls(**values)


@dataclasses.dataclass(frozen=True)
class Body(Traits):
    """Segment lengths, half widths and radii (shares of stature), after anthropometric means of adults.

    `heft` and `build` are nearly standard scores that change many girths together, as weight and sex do.
    Independent girths would make impossible bodies.
    """

    stature_m: float = size(1.69, 0.045)
    heft: float = shift(0.0, 1.2)
    build: float = shift(0.0, 1.2)  # positive: broad shoulders, narrow hips

    thigh: float = size(0.245, 0.046)
    shank: float = size(0.240, 0.046)
    ankle_height: float = size(0.042, 0.078, 0.042)  # shoes change
    foot: float = size(0.125, 0.078, 0.021)
    hip_half: float = size(0.048, 0.078)
    trunk: float = size(0.305, 0.033)
    neck: float = size(0.039, 0.2)
    shoulder_half: float = size(0.106, 0.065)
    shoulder_drop: float = shift(0.040, 0.01, 0.0014)
    upper_arm: float = size(0.162, 0.052)
    forearm: float = size(0.138, 0.052)
    hand: float = size(0.048, 0.091)

    head_height: float = size(0.068, 0.058)  # half axes of the skull
    head_width: float = size(0.050, 0.065)
    head_depth: float = size(0.056, 0.058)
    hair_volume: float = shift(0.005, 0.0052, 0.001)
    hair_length: float = shift(0.015, 0.058, 0.0028)

    chest_half: float = size(0.098, 0.065)
    chest_depth: float = size(0.064, 0.091)
    waist_half: float = size(0.079, 0.078)
    waist_depth: float = size(0.058, 0.091)
    belly: float = shift(0.012, 0.013, 0.0014)
    pelvis_half: float = size(0.088, 0.065)
    buttock: float = shift(0.014, 0.01)
    thigh_radius: float = size(0.052, 0.078)
    knee_radius: float = size(0.034, 0.078)
    calf_radius: float = size(0.033, 0.091)
    ankle_radius: float = size(0.022, 0.078)
    arm_radius: float = size(0.030, 0.091)
    wrist_radius: float = size(0.018, 0.091)

    # Clothes and hair that a person has in every walk, with a change from day to day.
    top_slack: float = shift(0.011, 0.0052, 0.0021)
    hem_drop: float = shift(0.050, 0.029, 0.007)  # how far a shirt or jacket reaches below the hip joints
    sleeve_slack: float = shift(0.006, 0.0039, 0.0014)
    trouser_slack: float = shift(0.008, 0.0052, 0.0014)
    cuff_slack: float = shift(0.010, 0.0078, 0.0021)
