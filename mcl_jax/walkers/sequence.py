"""Records one walk: subject, condition, clothes and view."""

import dataclasses

import numpy as np

from mcl_jax.data.prepare.silhouette import normalize
from mcl_jax.errors import DataError
from mcl_jax.walkers import noise, scene
from mcl_jax.walkers.behaviour import draw_behaviour
from mcl_jax.walkers.body import Body
from mcl_jax.walkers.figure import Figure, dress
from mcl_jax.walkers.gait import FRAMES_PER_SECOND, SIDES, Gait, walk
from mcl_jax.walkers.render import Camera, draw, outlines
from mcl_jax.walkers.style import CONDITIONS, VIEWS, WalkerStyle, bounded_normal, generator
from mcl_jax.walkers.wardrobe import change_clothes, outfit, pick_bag, pick_coat, pick_skirt


@dataclasses.dataclass(frozen=True)
class Walk:
    """One walk in space, the same for all cameras.

    Attributes:
        figure: the person, walking in place.
        travelled: distance from the aim of the cameras along the path [s], shares of stature.
        stature_m: metres.
        heading: deviation from the straight path, radians.
    """

    figure: Figure
    travelled: np.ndarray
    stature_m: float
    heading: float


def draw_walk(
    seed: int,
    subject: int,
    condition: str,
    frames: int,
    style: WalkerStyle,
    frames_per_second: float = FRAMES_PER_SECOND,
) -> Walk:
    """Draw a walk of a person; see `render_sequence` for the arguments."""
    own, day = generator(seed, "subject", subject), generator(seed, "walk", subject, condition)
    body, gait = Body.draw(own, day, style), Gait.draw(own, day, style)
    if style.wardrobe:
        body = change_clothes(outfit(seed, subject, condition), body, style)
    if style.everyday:
        gait = dataclasses.replace(gait, elbow_deg=(1 - 0.3 * style.everyday) * gait.elbow_deg)
    coat = pick_coat(seed, subject, condition, day, style)
    bag = pick_bag(seed, subject, condition, day, style)
    arm_swing = dict.fromkeys(SIDES, 1.0)
    if coat:
        arm_swing = dict.fromkeys(SIDES, float(np.clip(1 - 0.25 * style.coat * day.random(), 0, 1)))
        gait = dataclasses.replace(gait, arm_spread_deg=gait.arm_spread_deg + 150 * coat.thickness)
    if bag and bag.kind != "backpack":
        arm_swing[bag.side] = float(np.clip(1 - style.bag * day.uniform(0.4, 0.9), 0, 1))
    behaviour = draw_behaviour(seed, subject, condition, style)
    arm_swing |= dict.fromkeys(behaviour.poses, 0.1)
    time = (np.arange(frames) - 0.5 * (frames - 1)) / frames_per_second
    strides = behaviour.distance(gait.strides_per_second * time)
    phase = day.random() + strides
    # A stride carries an adult about 0.84 statures at normal hip swing.
    travelled = 0.84 * gait.stride * strides
    heading = np.deg2rad(2.5) * style.camera * bounded_normal(day)
    skeleton = walk(body, gait, phase, arm_swing, behaviour.poses)
    figure = dress(body, skeleton, coat, bag, pick_skirt(seed, subject, condition, style))
    return Walk(behaviour.steer(figure, travelled), travelled, body.stature_m, heading)


def _draw_camera(rng: np.random.Generator, view: str, filmed: Walk, style: WalkerStyle) -> Camera:
    """Returns the camera of a view, with small random errors in its position."""
    distance = 7.0 * np.exp(0.08 * style.camera * bounded_normal(rng))
    off = np.deg2rad(20) * style.everyday * rng.uniform(-1, 1) if style.everyday else 0.0
    turned = filmed.heading + off + np.deg2rad(1.0) * style.camera * bounded_normal(rng)
    return Camera(
        azimuth=np.deg2rad(int(view)) + turned,
        # Long walks need a longer path: nobody walks into the camera.
        distance=max(distance / filmed.stature_m, 2.5 + float(filmed.travelled[-1])),
        height=(1.4 + 0.1 * style.camera * bounded_normal(rng)) / filmed.stature_m,
        roll=np.deg2rad(0.8) * style.camera * bounded_normal(rng),
    )


def render_sequence(
    seed: int,
    subject: int,
    condition: str,
    view: str,
    frames: int = 60,
    style: WalkerStyle | None = None,
    frames_per_second: float = FRAMES_PER_SECOND,
) -> np.ndarray:
    """Render one walk; a pure function of its arguments.

    Args:
        seed: random seed of the whole population, at least 0.
        subject: number of the person in it, at least 0.
        condition: one of CONDITIONS.
        view: one of VIEWS; all views of a condition film the same walk, with errors of their own.
        frames: number of frames, at least 1; the walker is nearest the cameras in mid sequence.
        style: difficulty; the default WalkerStyle() if None.
        frames_per_second: frame rate of the camera.

    Returns:
        Silhouettes [frames, 64, 64] uint8, 0 outside and 255 inside with grey edges.

    Raises:
        DataError: an argument is invalid.
    """
    if condition not in CONDITIONS:
        raise DataError(f"unknown condition {condition!r}: use one of {', '.join(CONDITIONS)}")
    if view not in VIEWS:
        raise DataError(f"unknown view {view!r}: use one of {', '.join(VIEWS)}")
    if min(seed, subject) < 0 or frames < 1:
        raise DataError(f"seed {seed} and subject {subject} must be at least 0, frames {frames} at least 1")
    if not 1 <= frames_per_second <= 1000:
        raise DataError(f"frames_per_second {frames_per_second} is outside 1..1000")
    style = style or WalkerStyle()
    filmed = draw_walk(seed, subject, condition, frames, style, frames_per_second)
    rng = generator(seed, "film", subject, condition, view)
    polygons = outlines(filmed.figure, _draw_camera(rng, view, filmed, style), filmed.travelled)
    # The other walks get good masks, so that training sees complete people.
    if style.scene and rng.random() < style.scene_share:
        place = scene.draw_scene(rng, outfit(seed, subject, condition), style)
        columns = scene.crossing(rng, place, frames)
        return scene.silhouettes(scene.film(rng, place, filmed.figure.names, polygons, columns))
    masks = draw(polygons, noise.visible_parts(rng, style, filmed.figure.names, frames))
    noise.add_scraps(rng, style, masks, polygons)
    return np.stack([normalize(mask) for mask in noise.roughen(rng, style, masks)])
