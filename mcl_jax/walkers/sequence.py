"""One recorded walk: who, how, in what clothes, seen from where."""

import dataclasses

import numpy as np

from mcl_jax.data.prepare.silhouette import normalize
from mcl_jax.errors import DataError
from mcl_jax.walkers import noise, scene
from mcl_jax.walkers.body import Body
from mcl_jax.walkers.figure import Bag, Coat, Figure, dress
from mcl_jax.walkers.gait import FRAMES_PER_SECOND, SIDES, Gait, walk
from mcl_jax.walkers.render import Camera, draw, outlines
from mcl_jax.walkers.style import CONDITIONS, VIEWS, WalkerStyle, bounded_normal, generator

SCENE_SHARE = 0.6  # of the walks, where the style has scenes


def _draw_coat(rng: np.random.Generator, style: WalkerStyle) -> Coat:
    collar = rng.uniform(0.02, 0.045) if rng.random() < 0.5 else 0.0
    reach = style.coat * rng.uniform(0.3, 1.2)
    return Coat(style.coat * rng.uniform(0.010, 0.031), reach, style.coat * rng.uniform(0.0, 0.026), collar)


def _draw_bag(rng: np.random.Generator, style: WalkerStyle) -> Bag:
    kind = str(rng.choice(["backpack", "shoulder", "hand"], p=[0.35, 0.4, 0.25]))
    side = str(rng.choice(list(SIDES)))
    big = style.bag * rng.uniform(0.9, 1.5)
    depth, width, height = {
        "backpack": (0.050, 0.080, 0.110),
        "shoulder": (0.085, 0.032, 0.070),
        "hand": (0.075, 0.028, 0.062),
    }[kind]
    height *= rng.uniform(0.85, 1.15)
    return Bag(kind, side, big * depth, big * width, big * height, strap=rng.uniform(0.0, 0.07))


def _outfit(seed: int, subject: int, condition: str) -> np.random.Generator:
    """Where the looks of an outfit come from: in two walks of three people wear the same one."""
    number = generator(seed, "outfit", subject, condition).integers(3)
    return generator(seed, "clothes", subject, int(number == 0))


def _change_clothes(outfit: np.random.Generator, body: Body, style: WalkerStyle) -> Body:
    """The same body in another outfit, with its hair done in another way."""
    spread = {
        "top_slack": 0.007,
        "hem_drop": 0.035,
        "sleeve_slack": 0.005,
        "trouser_slack": 0.007,
        "cuff_slack": 0.010,
        "hair_volume": 0.003,
    }
    changes = {name: style.wardrobe * sigma * bounded_normal(outfit) for name, sigma in spread.items()}
    return dataclasses.replace(body, **{name: getattr(body, name) + d for name, d in changes.items()})


@dataclasses.dataclass(frozen=True)
class Walk:
    """What happened in front of the cameras, the same for all of them.

    Attributes:
        figure: the person, walking in place.
        travelled: distance from the aim of the cameras along the path [s], shares of stature.
        stature_m: metres.
        heading: departure from the straight path, radians.
    """

    figure: Figure
    travelled: np.ndarray
    stature_m: float
    heading: float


def draw_walk(seed: int, subject: int, condition: str, frames: int, style: WalkerStyle) -> Walk:
    """Draw a walk of a person; `render_sequence` has the arguments."""
    own, day = generator(seed, "subject", subject), generator(seed, "walk", subject, condition)
    body, gait = Body.draw(own, day, style), Gait.draw(own, day, style)
    if style.wardrobe:
        body = _change_clothes(_outfit(seed, subject, condition), body, style)
    coat = _draw_coat(day, style) if condition.startswith("cl") and style.coat else None
    bag = _draw_bag(day, style) if condition.startswith("bg") and style.bag else None
    arm_swing = dict.fromkeys(SIDES, 1.0)
    if coat:
        arm_swing = dict.fromkeys(SIDES, float(np.clip(1 - 0.25 * style.coat * day.random(), 0, 1)))
        gait = dataclasses.replace(gait, arm_spread_deg=gait.arm_spread_deg + 150 * coat.thickness)
    if bag and bag.kind != "backpack":
        arm_swing[bag.side] = float(np.clip(1 - style.bag * day.uniform(0.4, 0.9), 0, 1))
    time = (np.arange(frames) - 0.5 * (frames - 1)) / FRAMES_PER_SECOND
    phase = day.random() + gait.strides_per_second * time
    # A stride carries an adult about 0.84 statures at normal hip swing.
    travelled = 0.84 * gait.stride * gait.strides_per_second * time
    heading = np.deg2rad(2.5) * style.camera * bounded_normal(day)
    figure = dress(body, walk(body, gait, phase, arm_swing), coat, bag)
    return Walk(figure, travelled, body.stature_m, heading)


def _draw_camera(rng: np.random.Generator, view: str, filmed: Walk, style: WalkerStyle) -> Camera:
    """The nominal camera of a view, set up not quite as the last time."""
    distance = 7.0 * np.exp(0.08 * style.camera * bounded_normal(rng))
    return Camera(
        azimuth=np.deg2rad(int(view)) + filmed.heading + np.deg2rad(1.0) * style.camera * bounded_normal(rng),
        # Long walks need a longer path: nobody walks into the camera.
        distance=max(distance / filmed.stature_m, 2.5 + float(filmed.travelled[-1])),
        height=(1.4 + 0.1 * style.camera * bounded_normal(rng)) / filmed.stature_m,
        roll=np.deg2rad(0.8) * style.camera * bounded_normal(rng),
    )


def render_sequence(
    seed: int, subject: int, condition: str, view: str, frames: int = 60, style: WalkerStyle | None = None
) -> np.ndarray:
    """Render one walk; a pure function of its arguments.

    Args:
        seed: of the whole population, at least 0.
        subject: which person of it, at least 0.
        condition: one of CONDITIONS.
        view: one of VIEWS; all views of a condition film the same walk, with errors of their own.
        frames: how many, at 25 a second, at least 1; the walker is nearest the cameras in mid sequence.
        style: difficulty; the default WalkerStyle() if None.

    Returns:
        Silhouettes [frames, 64, 64] uint8, 0 outside and 255 inside with grey edges.

    Raises:
        DataError: an argument is not one of those.
    """
    if condition not in CONDITIONS:
        raise DataError(f"unknown condition {condition!r}: use one of {', '.join(CONDITIONS)}")
    if view not in VIEWS:
        raise DataError(f"unknown view {view!r}: use one of {', '.join(VIEWS)}")
    if min(seed, subject) < 0 or frames < 1:
        raise DataError(f"seed {seed} and subject {subject} must be at least 0, frames {frames} at least 1")
    style = style or WalkerStyle()
    filmed = draw_walk(seed, subject, condition, frames, style)
    rng = generator(seed, "film", subject, condition, view)
    polygons = outlines(filmed.figure, _draw_camera(rng, view, filmed, style), filmed.travelled)
    # The other walks are masked well, so that training sees what people look like.
    if style.scene and rng.random() < SCENE_SHARE:
        place = scene.draw_scene(rng, _outfit(seed, subject, condition), style)
        columns = scene.crossing(rng, place, frames)
        return scene.silhouettes(scene.film(rng, place, filmed.figure.names, polygons, columns))
    masks = draw(polygons, noise.visible_parts(rng, style, filmed.figure.names, frames))
    noise.add_scraps(rng, style, masks, polygons)
    return np.stack([normalize(mask) for mask in noise.roughen(rng, style, masks)])
