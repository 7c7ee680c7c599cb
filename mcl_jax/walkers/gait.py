"""One person's gait: joint angles over the stride, and the skeleton they place in space.

Axes: x forward, y to the walker's left, z up. Lengths are shares of stature, angles radians unless named
`_deg`. Phase 0 of a leg is its heel strike; a stride is one cycle of one leg.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from mcl_jax.walkers.body import Body, Traits, shift, size

FRAMES_PER_SECOND = 25.0

# Normal sagittal joint angles of adults at every 5 % of the stride, degrees, flexion positive.
HIP_DEG = (30, 29, 26, 21, 16, 11, 6, 1, -4, -8, -10, -9, -3, 6, 15, 23, 29, 32, 33, 31)
KNEE_DEG = (5, 10, 16, 18, 16, 13, 10, 7, 6, 7, 11, 20, 34, 50, 60, 62, 54, 38, 18, 6)
ANKLE_DEG = (0, -5, -3, 1, 4, 6, 8, 9, 10, 10, 6, -4, -16, -18, -11, -4, 0, 2, 1, 0)
HARMONICS = 6

SIDES = {"left": 1.0, "right": -1.0}


@dataclasses.dataclass(frozen=True)
class Gait(Traits):
    """Style of walking; factors multiply the normal curves above, offsets add to them."""

    cadence: float = size(111.0, 0.072, 0.021)  # steps a minute
    stride: float = size(0.92, 0.12, 0.035)  # factor on the swing of the hips
    hip_offset_deg: float = shift(0.0, 3.2, 0.7)
    knee_lift: float = size(1.0, 0.13, 0.028)
    knee_offset_deg: float = shift(1.0, 3.2, 0.7)
    ankle_push: float = size(1.0, 0.26, 0.035)
    step_half: float = shift(0.034, 0.014, 0.0028)  # half the distance between the feet, seen from the front
    toe_out_deg: float = shift(8.0, 6.5, 1.4)
    lag: float = shift(0.0, 0.016, 0.0028)  # left step longer than the right, strides
    limp: float = shift(0.0, 0.046, 0.0084)  # left swing larger than the right

    arm_swing_deg: float = size(16.0, 0.45, 0.084)
    arm_offset_deg: float = shift(-5.0, 5.2, 1.4)
    arm_spread_deg: float = shift(9.0, 4.5, 1)
    elbow_deg: float = size(23.0, 0.45, 0.084)
    elbow_swing_deg: float = size(11.0, 0.45, 0.1)
    arm_lag: float = shift(0.0, 0.026, 0.007)
    arm_limp: float = shift(0.0, 0.23, 0.056)

    lean_deg: float = shift(3.0, 3.2, 0.7)
    stoop_deg: float = shift(7.0, 5.9, 1)
    head_deg: float = shift(14.0, 7.8, 2.1)
    head_turn_deg: float = shift(0.0, 3.9, 4.2)
    pelvis_turn_deg: float = size(5.0, 0.39, 0.07)
    shoulder_turn_deg: float = size(5.5, 0.39, 0.07)
    pelvis_drop_deg: float = size(3.5, 0.39, 0.07)
    shoulder_tilt_deg: float = shift(0.0, 2, 0.56)
    sway: float = size(0.013, 0.39, 0.07)

    @property
    def strides_per_second(self) -> float:
        """A stride is two steps."""
        return self.cadence / 120.0


@dataclasses.dataclass(frozen=True)
class ArmPose:
    """Angles of an arm that does not swing; they replace the gait's own."""

    forward_deg: float  # of the upper arm, from hanging down
    elbow_deg: float
    inward_deg: float  # of the forearm, to the middle of the body


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """Joints and segment frames over time.

    Attributes:
        joints: name → positions [s, 3].
        frames: name → rotations [s, 3, 3] whose columns are the segment's forward, left and up.
        phase: phase of the left leg [s], in strides.
    """

    joints: dict[str, np.ndarray]
    frames: dict[str, np.ndarray]
    phase: np.ndarray


def rotation(axis: int, angle: np.ndarray) -> np.ndarray:
    """Right-handed rotations [s, 3, 3] about x, y or z (axis 0, 1, 2) by angles [s]."""
    out = np.zeros((*angle.shape, 3, 3))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    out[..., axis, axis] = 1.0
    out[..., i, i] = out[..., j, j] = np.cos(angle)
    out[..., j, i] = np.sin(angle)
    out[..., i, j] = -out[..., j, i]
    return out


def curve(samples_deg: tuple[int, ...], phase: np.ndarray) -> np.ndarray:
    """The smooth periodic curve through equally spaced samples, at phases [s] (strides), in degrees."""
    spectrum = np.fft.rfft(samples_deg)[: HARMONICS + 1] / len(samples_deg)
    spectrum[1:] *= 2.0
    return np.real(np.exp(2j * np.pi * phase[:, None] * np.arange(HARMONICS + 1)) @ spectrum)


def _trunk(body: Body, gait: Gait, phase: np.ndarray) -> Skeleton:
    """Pelvis, spine, shoulders and head, with the pelvis at height 0."""
    cycle = 2 * np.pi * phase
    rad = np.deg2rad
    # The left hip leads at left heel strike and the shoulders turn against it; the swing side drops.
    pelvis = rotation(2, -rad(gait.pelvis_turn_deg) * np.cos(cycle))
    pelvis = pelvis @ rotation(0, rad(gait.pelvis_drop_deg) * np.cos(cycle - 1.2))
    turn = rotation(2, rad(gait.shoulder_turn_deg) * np.cos(cycle))
    tilt = rotation(0, rad(gait.shoulder_tilt_deg) - 0.4 * rad(gait.pelvis_drop_deg) * np.cos(cycle - 1.2))
    shoulders = turn @ tilt
    nod = rad(0.8) * np.cos(2 * cycle)
    lower = shoulders @ rotation(1, rad(gait.lean_deg) + nod)
    chest = shoulders @ rotation(1, rad(gait.lean_deg + gait.stoop_deg) + nod)
    neck = rotation(1, rad(gait.lean_deg + gait.stoop_deg + gait.head_deg) + nod)
    head = rotation(2, np.full_like(phase, rad(gait.head_turn_deg))) @ rotation(
        1, 0.4 * rad(gait.head_deg) + nod
    )

    joints = {"pelvis": np.zeros((len(phase), 3))}
    joints["pelvis"][:, 1] = gait.sway * np.cos(cycle - 1.9)
    joints["waist"] = joints["pelvis"] + 0.35 * body.trunk * lower[..., 2]
    joints["chest"] = joints["waist"] + 0.33 * body.trunk * (0.5 * lower + 0.5 * chest)[..., 2]
    joints["neck"] = joints["chest"] + 0.32 * body.trunk * chest[..., 2]
    joints["head"] = (
        joints["neck"] + body.neck * neck[..., 2] + 0.9 * body.head_height * (0.5 * neck + 0.5 * head)[..., 2]
    )
    for side, sign in SIDES.items():
        joints[f"hip_{side}"] = joints["pelvis"] + sign * body.hip_half * pelvis[..., 1]
        across = sign * body.shoulder_half * chest[..., 1]
        joints[f"shoulder_{side}"] = joints["neck"] + across - body.shoulder_drop * chest[..., 2]
    frames = {"pelvis": pelvis, "lower": lower, "chest": chest, "shoulders": shoulders, "head": head}
    return Skeleton(joints, frames, phase)


def _leg(body: Body, gait: Gait, skeleton: Skeleton, side: str) -> None:
    """Add knee, ankle, heel and toe of one leg."""
    sign, joints = SIDES[side], skeleton.joints
    phase = skeleton.phase + (0.0 if side == "left" else 0.5 + gait.lag)
    swing = gait.stride * (1 + sign * gait.limp)
    hip = np.deg2rad(11.0 + gait.hip_offset_deg + swing * (curve(HIP_DEG, phase) - 11.0))
    # Knees never bend forwards.
    knee = np.deg2rad(np.maximum(gait.knee_offset_deg + gait.knee_lift * curve(KNEE_DEG, phase), 0.0))
    ankle = np.deg2rad(gait.ankle_push * curve(ANKLE_DEG, phase))
    inward = np.full_like(hip, sign * (gait.step_half - body.hip_half) / (body.thigh + body.shank))

    def along(angle: np.ndarray) -> np.ndarray:
        return np.stack([np.sin(angle), inward, -np.cos(angle)], axis=-1)

    joints[f"knee_{side}"] = joints[f"hip_{side}"] + body.thigh * along(hip)
    joints[f"ankle_{side}"] = joints[f"knee_{side}"] + body.shank * along(hip - knee)
    # The foot is turned out, then pitched by the rest of the three angles: flat in mid stance.
    toe_out = np.full_like(hip, sign * np.deg2rad(gait.toe_out_deg))
    foot = rotation(2, toe_out) @ rotation(1, -(hip - knee + ankle))
    sole = joints[f"ankle_{side}"] - body.ankle_height * foot[..., 2]
    joints[f"heel_{side}"] = sole - 0.25 * body.foot * foot[..., 0]
    joints[f"toe_{side}"] = sole + 0.75 * body.foot * foot[..., 0]
    skeleton.frames[f"foot_{side}"] = foot


def _arm(body: Body, gait: Gait, skeleton: Skeleton, side: str, swing: float, pose: ArmPose | None) -> None:
    """Add elbow, wrist and hand of one arm; `swing` is the share of the normal swing left by a load."""
    sign, joints = SIDES[side], skeleton.joints
    phase = skeleton.phase + (0.0 if side == "left" else 0.5) + gait.arm_lag
    amount = swing * (1 + sign * gait.arm_limp)
    # Back at the heel strike of its own leg.
    offset, bent = (pose.forward_deg, pose.elbow_deg) if pose else (gait.arm_offset_deg, gait.elbow_deg)
    forward = np.deg2rad(offset - amount * gait.arm_swing_deg * np.cos(2 * np.pi * phase))
    bend = 0.5 - 0.5 * np.cos(2 * np.pi * (phase - 0.04))
    elbow = np.deg2rad(np.maximum(bent + amount * gait.elbow_swing_deg * bend, 0.0))
    spread = np.deg2rad(gait.arm_spread_deg)
    inward = np.deg2rad(pose.inward_deg) if pose else 0.0

    def along(angle: np.ndarray, out: float) -> np.ndarray:
        local = np.stack([np.sin(angle), np.full_like(angle, sign * np.tan(out)), -np.cos(angle)], axis=-1)
        # Arms hang from the shoulders, which turn with the trunk but do not stoop with it.
        return np.einsum("sij,sj->si", skeleton.frames["shoulders"], local)

    joints[f"elbow_{side}"] = joints[f"shoulder_{side}"] + body.upper_arm * along(forward, spread)
    joints[f"wrist_{side}"] = joints[f"elbow_{side}"] + body.forearm * along(
        forward + elbow, 0.3 * spread - inward
    )
    joints[f"hand_{side}"] = joints[f"wrist_{side}"] + body.hand * along(forward + elbow, -inward)


def walk(
    body: Body,
    gait: Gait,
    phase: np.ndarray,
    arm_swing: Mapping[str, float],
    poses: Mapping[str, ArmPose] | None = None,
) -> Skeleton:
    """The skeleton at phases [s] of the left leg, walking in place along +x with the lower foot on z = 0.

    Args:
        body: the proportions.
        gait: the style.
        phase: [s], strides.
        arm_swing: side → share of the normal swing.
        poses: side → pose of that arm, for arms that do not swing.
    """
    poses = poses or {}
    skeleton = _trunk(body, gait, phase)
    for side in SIDES:
        _leg(body, gait, skeleton, side)
        _arm(body, gait, skeleton, side, arm_swing[side], poses.get(side))
    # Standing on the lowest point of the feet makes the body bob twice a stride by itself.
    feet = [skeleton.joints[f"{point}_{side}"][:, 2] for point in ("heel", "toe") for side in SIDES]
    ground = np.min(feet, axis=0)
    for joint in skeleton.joints.values():
        joint[:, 2] -= ground
    return skeleton
