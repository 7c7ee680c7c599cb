import numpy as np
import pytest

from mcl_jax.errors import DataError
from mcl_jax.walkers import WalkerStyle, render_sequence, scene, write_walkers
from mcl_jax.walkers.render import CANVAS, PERSON
from mcl_jax.walkers.sequence import _draw_camera, draw_walk
from mcl_jax.walkers.style import generator
from mcl_jax.walkers.wardrobe import outfit, pick_bag, pick_coat

WORLD = WalkerStyle(camera=2.5, scene=1.0, wardrobe=0.7)


def plain_scene(**changes) -> scene.Scene:
    """A grey wall, and a person in white; nothing goes wrong."""
    white = dict.fromkeys(("skin", "hair", "top", "sleeve", "trousers", "shoes", "bag"), 1.0)
    settings = {
        "background": np.full((scene.ROWS, scene.COLUMNS), 0.5, np.float32),
        "colours": white,
        "height": 72.0,
        "feet": 100.0,
        "threshold": 0.1,
        "grain": 0.0,
        "blur": 0.5,
        "median": 1,
        "closing": 1,
        "shadow": 0.0,
        "fall": np.array([[1.0, 0.0], [0.0, 0.2]]),
        "wall": (0.0, 0.0, 0.0, 1.0),
    }
    return scene.Scene(**settings | changes)


def box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """A rectangle [4, 2] on the canvas, in shares of the person's box."""
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    return (corners - 0.5) * PERSON + 0.5 * CANVAS


def film(place: scene.Scene, columns: tuple[float, ...] = (80.0,)) -> np.ndarray:
    """A person of two boxes, chest above trousers, filling the height and a quarter of it in width."""
    polygons = np.stack([box(0.375, 0, 0.625, 0.5), box(0.375, 0.5, 0.625, 1)])
    polygons = np.broadcast_to(polygons, (len(columns), 2, 4, 2))
    rng = np.random.default_rng(0)
    return scene.film(rng, place, ("chest", "thigh_left"), polygons, np.array(columns))


def rows(mask: np.ndarray) -> tuple[int, int]:
    found = np.flatnonzero(mask.any(axis=1))
    return int(found[0]), int(found[-1])


def test_the_person_stands_where_the_scene_says():
    mask = film(plain_scene())[0]
    assert set(np.unique(mask)) == {0, 255}
    top, bottom = rows(mask)
    assert abs(top - 28) <= 2
    assert abs(bottom - 100) <= 2
    columns = np.flatnonzero(mask.any(axis=0))
    assert abs(columns.mean() - 80) <= 1
    assert abs(len(columns) - 18) <= 3


def test_clothes_as_bright_as_the_wall_are_lost():
    colours = plain_scene().colours | {"top": 0.5}
    top, bottom = rows(film(plain_scene(colours=colours))[0])
    assert abs(top - 64) <= 2  # only the trousers are left
    assert abs(bottom - 100) <= 2


def test_only_the_largest_piece_is_kept():
    background = np.full((scene.ROWS, scene.COLUMNS), 0.5, np.float32)
    background[60:70] = 1.0  # as bright as the person: cuts the mask in two
    top, bottom = rows(film(plain_scene(background=background))[0])
    assert abs(bottom - top - 32) <= 3


def test_who_leaves_the_picture_is_cut_off_at_its_border():
    inside, leaving, gone = film(plain_scene(), (80.0, 0.0, -80.0))
    assert 0.4 < leaving.sum() / inside.sum() < 0.6
    assert not gone.any()


@pytest.mark.parametrize(
    "trouble", [{"shadow": 0.4, "fall": np.array([[1.0, 1.0], [0.0, 0.2]])}, {"wall": (0.4, 0.2, 0.0, 1.0)}]
)
def test_shadows_add_to_the_mask(trouble):
    assert film(plain_scene(**trouble))[0].sum() > 1.05 * film(plain_scene())[0].sum()


def test_frames_that_show_nobody_repeat_their_neighbour():
    masks = film(plain_scene(), (-80.0, 80.0, -80.0))
    frames = scene.silhouettes(masks)
    assert frames.shape == (3, 64, 64)
    assert frames[0].any()
    np.testing.assert_array_equal(frames[0], frames[1])
    np.testing.assert_array_equal(frames[2], frames[1])


def test_a_walk_goes_from_border_to_border():
    columns = scene.crossing(np.random.default_rng(0), plain_scene(), 30)
    assert columns[0] > 0.9 * scene.COLUMNS
    assert columns[-1] < 0.1 * scene.COLUMNS


def test_more_trouble_leaves_less_of_the_person_right():
    def wrong(trouble: float) -> float:
        frames = [
            render_sequence(0, subject, "nm-01", "090", 12, WalkerStyle(camera=0, scene=trouble))
            for subject in range(20)
        ]
        clean = [
            render_sequence(0, subject, "nm-01", "090", 12, WalkerStyle(camera=0, noise=0))
            for subject in range(20)
        ]
        pairs = zip(frames, clean, strict=True)
        return float(np.mean([np.abs(a.mean(axis=0) - b.mean(axis=0)).mean() for a, b in pairs]))

    assert wrong(3.0) > wrong(0.1)


def test_same_arguments_same_bytes_and_both_knobs_count():
    reference = render_sequence(0, 0, "nm-01", "090", 8, WORLD)
    np.testing.assert_array_equal(render_sequence(0, 0, "nm-01", "090", 8, WORLD), reference)
    for other in (WalkerStyle(camera=2.5, scene=1.0), WalkerStyle(camera=2.5, wardrobe=0.7)):
        assert not np.array_equal(render_sequence(0, 0, "nm-01", "090", 8, other), reference)


def test_an_outfit_is_worn_again():
    def colours(condition: str) -> tuple[float, ...]:
        place = scene.draw_scene(generator(0, condition), outfit(0, 0, condition), WORLD)
        return tuple(place.colours.values())

    assert len({colours(f"nm-0{number}") for number in range(1, 7)}) == 2


def test_trees_of_the_world_depend_not_on_workers(tmp_path):
    people = {
        "subjects": 2,
        "test_subjects": 1,
        "views": ["090"],
        "conditions": ["nm-01", "cl-01"],
        "frames": 4,
        "style": WORLD,
    }
    write_walkers(tmp_path / "alone", **people)
    write_walkers(tmp_path / "parallel", **people, workers=2)
    alone, parallel = (
        {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*.pkl")}
        for name in ("alone", "parallel")
    )
    assert len(alone) == 4
    assert list(alone.values()) == list(parallel.values())


def test_everyday_outfits_have_coats_and_bags_of_their_own():
    everyday = WalkerStyle(everyday=1.0)
    conditions = [f"nm-{number:02d}" for number in range(1, 7)]
    shared = {}
    for subject in range(60):
        for condition in conditions:
            coat = pick_coat(0, subject, condition, generator(1, subject, condition), everyday)
            worn = float(outfit(0, subject, condition).random())
            assert shared.setdefault((subject, worn), coat) == coat  # that of the outfit, whatever the day
    share = sum(coat is not None for coat in shared.values()) / len(shared)
    assert 0.15 < share < 0.45
    bags = [pick_bag(0, s, "nm-01", generator(1, s), everyday) is not None for s in range(200)]
    assert 20 < sum(bags) < 60
    assert pick_coat(0, 0, "nm-01", generator(1), WalkerStyle()) is None
    assert pick_bag(0, 0, "nm-01", generator(1), WalkerStyle()) is None


def test_everyday_people_are_seen_from_up_to_twenty_degrees_beside_the_view():
    style = WalkerStyle(camera=0.0, everyday=1.0)
    walk = draw_walk(0, 0, "nm-01", 3, style)
    cameras = [_draw_camera(generator(seed), "090", walk, style) for seed in range(300)]
    off = np.rad2deg([camera.azimuth for camera in cameras]) - 90
    assert -20 <= off.min() < -18
    assert 18 < off.max() <= 20
    assert abs(off.mean()) < 2


def test_a_slower_camera_sees_more_of_the_stride():
    def frames(rate: float, count: int) -> np.ndarray:
        return render_sequence(0, 0, "nm-01", "090", count, WalkerStyle(noise=0.0), rate)

    # The same moments about the middle of the walk: every second frame of twice as many a second.
    np.testing.assert_array_equal(frames(10.0, 3), frames(20.0, 5)[::2])
    with pytest.raises(DataError, match="frames_per_second 0 is outside"):
        frames(0, 3)


def test_a_patch_of_light_is_found_while_it_lasts():
    patch = scene.Patch(begin=0.5, length=0.25, shift=(0.0, -1.2), size=(0.1, 0.1), light=0.3)
    masks = film(
        plain_scene(patches=(patch,), colours=dict.fromkeys(plain_scene().colours, 0.5)), (80.0,) * 4
    )
    assert [bool(mask.any()) for mask in masks] == [False, False, True, False]
    assert abs(np.argwhere(masks[2])[:, 0].mean() - (100 - 1.2 * 72)) <= 1
