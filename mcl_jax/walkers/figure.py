"""Solid figure of a walker: each part is the convex hull of a few ellipsoids."""

import dataclasses

import numpy as np

from mcl_jax.walkers.body import Body
from mcl_jax.walkers.gait import SIDES, Skeleton

BLOBS = 3  # ellipsoids in a part; parts with fewer repeat their last one


@dataclasses.dataclass(frozen=True)
class Coat:
    """Lengths are shares of stature."""

    thickness: float
    reach: float  # hem, as a share of the way from hip to knee; above 1 it covers the knees
    flare: float
    collar: float  # 0 for none


@dataclasses.dataclass(frozen=True)
class Skirt:
    """A skirt over bare legs; lengths are shares of stature."""

    reach: float  # hem, as a share of the way from hip to knee; 2 is at the ankles
    flare: float  # how far the hem stands off the thighs


@dataclasses.dataclass(frozen=True)
class Bag:
    """A carried bag; lengths are half axes as shares of stature."""

    kind: str  # "backpack", "shoulder" or "hand"
    side: str
    depth: float
    width: float
    height: float
    strap: float  # how low a shoulder or hand bag hangs


@dataclasses.dataclass(frozen=True)
class Figure:
    """The solid person.

    Attributes:
        names: one per part.
        centres: ellipsoid centres [s, parts, BLOBS, 3], shares of stature.
        axes: their half axes as the columns of [s, parts, BLOBS, 3, 3].
    """

    names: tuple[str, ...]
    centres: np.ndarray
    axes: np.ndarray


Blob = tuple[np.ndarray, np.ndarray]


def _ball(centre: np.ndarray, radius: float) -> Blob:
    return centre, np.broadcast_to(radius * np.eye(3), (len(centre), 3, 3))


def _egg(centre: np.ndarray, frame: np.ndarray, depth: float, width: float, height: float) -> Blob:
    return centre, frame * np.array([depth, width, height])


def _trunk(body: Body, bones: Skeleton, slack: float) -> dict[str, list[Blob]]:
    """Chest, belly, seat and shoulders under a garment that stands off by `slack`."""
    joints, frames = bones.joints, bones.frames
    girth, broad = np.exp(0.10 * body.heft), np.exp(0.05 * body.build)
    chest, lower, pelvis = frames["chest"], frames["lower"], frames["pelvis"]
    chest_depth, chest_half = girth * body.chest_depth + slack, broad * girth * body.chest_half + slack
    ribs = _egg(joints["chest"], chest, chest_depth, chest_half, 0.075)
    belly = body.belly * np.exp(0.5 * body.heft)
    waist_centre = joints["waist"] + belly * lower[..., 0]
    waist_depth, waist_half = girth**1.4 * body.waist_depth + slack, girth**1.4 * body.waist_half + slack
    waist = _egg(waist_centre, lower, waist_depth, waist_half, 0.06)
    seat_centre = joints["pelvis"] - body.buttock * pelvis[..., 0] + 0.02 * pelvis[..., 2]
    seat_depth, seat_half = girth * 0.066, girth / broad * body.pelvis_half
    seat = _egg(seat_centre, pelvis, seat_depth + 0.7 * slack, seat_half + 0.7 * slack, 0.055)
    hem_centre = joints["pelvis"] - body.hem_drop * lower[..., 2] + 0.3 * belly * lower[..., 0]
    hem = _egg(hem_centre, pelvis, seat_depth + slack, seat_half + slack, 0.012)
    parts = {"chest": [ribs, waist], "belly": [waist, seat], "hem": [waist, hem]}
    for side in SIDES:
        shoulder = _ball(joints[f"shoulder_{side}"], 0.031 * girth + 0.6 * slack)
        nape = _ball(joints["neck"] - 0.008 * chest[..., 2], 0.036 * girth)
        parts[f"trapezius_{side}"] = [nape, shoulder, ribs]
    return parts


def _head(body: Body, bones: Skeleton) -> dict[str, list[Blob]]:
    """Skull with jaw, neck and hair."""
    centre, frame, neck = bones.joints["head"], bones.frames["head"], bones.joints["neck"]
    forward, up = frame[..., 0], frame[..., 2]
    depth, width, height = body.head_depth, body.head_width, body.head_height
    skull = _egg(centre + 0.012 * up, frame, depth, width, 0.80 * height)
    jaw = _egg(centre + 0.014 * forward - 0.030 * up, frame, 0.6 * depth, 0.72 * width, 0.5 * height)
    puff = max(body.hair_volume, 0.0)
    crown_centre = centre + (0.015 + 0.5 * puff) * up - (0.004 + 0.5 * puff) * forward
    crown = _egg(crown_centre, frame, depth + 0.6 * puff, width + puff, 0.80 * height + puff)
    tail_centre = centre - 0.030 * forward - max(body.hair_length, 0.0) * up
    tail = _egg(tail_centre, frame, 0.022 + 0.5 * puff, 0.8 * width + puff, 0.025)
    girth = np.exp(0.08 * body.heft)
    throat = [_ball(neck, 0.036 * girth), _ball(centre - 0.03 * up, 0.032 * girth)]
    return {"skull": [skull, jaw], "hair": [crown, tail], "neck": throat}


def _limbs(body: Body, bones: Skeleton, sleeve: float) -> dict[str, list[Blob]]:
    """Arms in sleeves that stand off by `sleeve`, legs in trousers, shoes."""
    joints, girth = bones.joints, np.exp(0.09 * body.heft)
    loose, cuff = max(body.trouser_slack, 0.0), max(body.cuff_slack, 0.0)
    parts: dict[str, list[Blob]] = {}
    for side in SIDES:
        at = {name.removesuffix(f"_{side}"): joint for name, joint in joints.items()}
        upper, elbow = girth * body.arm_radius + sleeve, 0.82 * girth * body.arm_radius + sleeve
        wrist = body.wrist_radius + 0.7 * sleeve
        parts[f"upper_arm_{side}"] = [_ball(at["shoulder"], upper), _ball(at["elbow"], elbow)]
        parts[f"forearm_{side}"] = [_ball(at["elbow"], elbow), _ball(at["wrist"], wrist)]
        parts[f"hand_{side}"] = [_ball(at["wrist"], 0.016), _ball(at["hand"], 0.020)]

        thigh, knee = girth * body.thigh_radius + loose, girth * body.knee_radius + loose
        calf_centre = 0.72 * at["knee"] + 0.28 * at["ankle"] - 0.008 * bones.frames["pelvis"][..., 0]
        hem_centre = 0.12 * at["knee"] + 0.88 * at["ankle"]
        parts[f"thigh_{side}"] = [_ball(at["hip"], thigh), _ball(at["knee"], knee)]
        calf = _ball(calf_centre, girth * body.calf_radius + 0.8 * loose)
        parts[f"calf_{side}"] = [_ball(at["knee"], knee), calf]
        parts[f"shank_{side}"] = [calf, _ball(hem_centre, body.ankle_radius + cuff)]
        foot, sole = bones.frames[f"foot_{side}"], 0.020 * bones.frames[f"foot_{side}"][..., 2]
        heel = _egg(at["heel"] + sole, foot, 0.020, 0.022, 0.020)
        toe = _egg(at["toe"] + 0.7 * sole - 0.022 * foot[..., 0], foot, 0.024, 0.027, 0.014)
        parts[f"foot_{side}"] = [heel, toe, _ball(at["ankle"], body.ankle_radius)]
    return parts


def _coat(coat: Coat, body: Body, bones: Skeleton) -> dict[str, list[Blob]]:
    """The skirts of a coat and its collar."""
    joints, girth = bones.joints, np.exp(0.10 * body.heft)
    waist_depth, waist_half = (
        girth * body.waist_depth + coat.thickness,
        girth * body.waist_half + coat.thickness,
    )
    waist = _egg(joints["waist"], bones.frames["lower"], waist_depth, waist_half, 0.05)
    parts = {"coat": [waist, *_hems(body, bones, coat.reach, coat.thickness + coat.flare)]}
    if coat.collar > 0:
        chest = bones.frames["chest"]
        centre = joints["neck"] + 0.4 * coat.collar * chest[..., 2] - 0.012 * chest[..., 0]
        parts["collar"] = [_egg(centre, chest, 0.045 + 0.4 * coat.collar, 0.052, coat.collar)]
    return parts


def _hems(body: Body, bones: Skeleton, reach: float, stand_off: float) -> list[Blob]:
    """Returns the hems of cloth that hangs from the waist and is moved by both thighs."""
    pelvis, hems = bones.frames["pelvis"], []
    radius = np.exp(0.10 * body.heft) * body.thigh_radius + stand_off
    for side in SIDES:
        knee, hip = bones.joints[f"knee_{side}"], bones.joints[f"hip_{side}"]
        # Cloth follows a swinging thigh only half way.
        downwards = 0.5 * (knee - hip) - 0.5 * body.thigh * pelvis[..., 2]
        hems.append(_egg(hip + reach * downwards, pelvis, radius, radius, 0.015))
    return hems


def _bag(bag: Bag, body: Body, bones: Skeleton) -> dict[str, list[Blob]]:
    """The bag itself: two flat ellipsoids make a box with rounded corners."""
    joints, chest, pelvis = bones.joints, bones.frames["chest"], bones.frames["pelvis"]
    girth, sign = np.exp(0.10 * body.heft), SIDES[bag.side]
    if bag.kind == "backpack":
        frame, back = chest, girth * body.chest_depth + 0.8 * bag.depth
        centre = joints["chest"] - back * chest[..., 0] - 0.02 * chest[..., 2]
    elif bag.kind == "shoulder":
        frame = pelvis
        place = np.array([-0.03, sign * (girth * body.pelvis_half + 0.6 * bag.width), 0.09 - bag.strap])
        centre = joints["pelvis"] + pelvis @ place
    else:
        frame = np.broadcast_to(np.eye(3), chest.shape)
        centre = joints[f"hand_{bag.side}"] - np.array([0.0, 0.0, bag.height + bag.strap])
    end = 0.65 * bag.height * frame[..., 2]
    ends = [_egg(centre + way * end, frame, bag.depth, bag.width, 0.5 * bag.height) for way in (1, -1)]
    parts = {"bag": ends}
    if bag.kind == "hand":
        parts["strap"] = [_ball(joints[f"hand_{bag.side}"], 0.008), _ball(centre + end, 0.010)]
    return parts


def dress(
    body: Body,
    bones: Skeleton,
    coat: Coat | None = None,
    bag: Bag | None = None,
    skirt: Skirt | None = None,
) -> Figure:
    """Put a body, clothes and bags on a skeleton."""
    if skirt:
        body = dataclasses.replace(body, trouser_slack=0.0, cuff_slack=0.0)
    thickness = coat.thickness if coat else 0.0
    parts = _trunk(body, bones, max(body.top_slack, 0.0) + thickness)
    parts |= _head(body, bones) | _limbs(body, bones, max(body.sleeve_slack, 0.0) + 0.7 * thickness)
    if skirt:
        parts["skirt"] = [parts["belly"][1], *_hems(body, bones, skirt.reach, skirt.flare)]
    if coat:
        parts |= _coat(coat, body, bones)
    if bag:
        parts |= _bag(bag, body, bones)
    padded = [blobs + [blobs[-1]] * (BLOBS - len(blobs)) for blobs in parts.values()]
    centres = np.stack([np.stack([centre for centre, _ in blobs], axis=1) for blobs in padded], axis=1)
    axes = np.stack([np.stack([axis for _, axis in blobs], axis=1) for blobs in padded], axis=1)
    return Figure(tuple(parts), centres.astype(np.float32), axes.astype(np.float32))
