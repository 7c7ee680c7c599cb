"""Behaviour of walkers: telephones and pockets, turning, changes of pace."""

import dataclasses

import numpy as np

from mcl_jax.walkers.figure import Figure
from mcl_jax.walkers.gait import SIDES, ArmPose, rotation
from mcl_jax.walkers.style import WalkerStyle, bounded_normal, generator

BUSY_SHARE = 0.2  # share of walks in which an arm does something other than swing
TURN_DEG = 12.0  # standard deviation of how far people turn during a walk
PACE_CHANGE = 0.06  # standard deviation of the change of pace from the middle to the end


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """Behaviour in one walk that differs from steady walking.

    Attributes:
        poses: side → how that arm is held; empty if both swing.
        turn: angle from the middle to either end of the walk, radians.
        pace_change: growth of the pace from the middle to the end, as a share of the pace.
    """

    poses: dict[str, ArmPose] = dataclasses.field(default_factory=dict)
    turn: float = 0.0
    pace_change: float = 0.0

    def distance(self, steady: np.ndarray) -> np.ndarray:
        """Returns the distance walked [s], in strides or statures, where a steady pace gives `steady` [s].

        In the middle of the walk, at 0, nothing has changed yet.
        """
        reach = np.abs(steady).max()
        return steady + 0.5 * self.pace_change * steady**2 / reach if self.pace_change and reach else steady

    def steer(self, figure: Figure, travelled: np.ndarray) -> Figure:
        """Moves the figure from the straight path to an arc; `travelled` [s] is the distance along it."""
        reach = np.abs(travelled).max()
        if not self.turn or not reach:
            return figure
        angle = self.turn * travelled / reach
        # Coordinates go straight on; the arc's sideways distance grows with the square of the way.
        aside = np.zeros((len(travelled), 3))
        aside[:, 1] = 0.5 * angle * travelled
        turned = rotation(2, angle).astype(np.float32)
        centres = np.einsum("sij,spbj->spbi", turned, figure.centres) + aside[:, None, None].astype(
            np.float32
        )
        return dataclasses.replace(figure, centres=centres, axes=turned[:, None, None] @ figure.axes)


def draw_behaviour(seed: int, subject: int, condition: str, style: WalkerStyle) -> Behaviour:
    """Draws the behaviour in a walk; with `style.variety` at 0 there is nothing special."""
    if not style.variety:
        return Behaviour()
    rng = generator(seed, "manner", subject, condition)
    turn = np.deg2rad(TURN_DEG) * style.variety * bounded_normal(rng)
    pace_change = float(np.clip(PACE_CHANGE * style.variety * bounded_normal(rng), -0.5, 0.5))
    if rng.random() >= BUSY_SHARE * style.variety:
        return Behaviour({}, turn, pace_change)
    side = str(rng.choice(list(SIDES)))
    poses = {
        "telephone before the chest": ArmPose(rng.uniform(5, 30), rng.uniform(80, 115), rng.uniform(5, 25)),
        "telephone at the ear": ArmPose(rng.uniform(15, 50), rng.uniform(125, 150), 0.0),
        "hand in a pocket": ArmPose(rng.uniform(-20, -5), rng.uniform(30, 55), 5.0),
        "hand behind the back": ArmPose(rng.uniform(-35, -20), rng.uniform(20, 40), 25.0),
    }
    return Behaviour({side: poses[str(rng.choice(list(poses)))]}, turn, pace_change)
