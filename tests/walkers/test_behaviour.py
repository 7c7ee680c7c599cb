"""Special walks: turning, a changing pace, skirts."""

import numpy as np
import pytest

from mcl_jax.walkers import CONDITIONS, WalkerStyle
from mcl_jax.walkers.behaviour import Behaviour
from mcl_jax.walkers.body import Body
from mcl_jax.walkers.figure import Skirt, dress
from mcl_jax.walkers.gait import SIDES, Gait, walk
from mcl_jax.walkers.wardrobe import pick_skirt


def test_pace_changes_by_as_much_as_it_is_told_to():
    steady = np.linspace(-2, 2, 401)
    way = Behaviour(pace_change=0.25).distance(steady)
    pace = np.diff(way) / np.diff(steady)
    assert pace[0] == pytest.approx(0.75, abs=0.005)
    assert pace[-1] == pytest.approx(1.25, abs=0.005)
    assert way[200] == 0
    np.testing.assert_array_equal(Behaviour().distance(steady), steady)
    np.testing.assert_array_equal(Behaviour(pace_change=0.25).distance(np.zeros(1)), np.zeros(1))


def test_a_turn_leaves_the_straight_path_along_an_arc():
    travelled = np.linspace(-1, 1, 21)
    skeleton = walk(Body(), Gait(), travelled, dict.fromkeys(SIDES, 1.0))
    figure = dress(Body(), skeleton)
    turned = Behaviour(turn=0.2).steer(figure, travelled)
    np.testing.assert_allclose(turned.centres[10], figure.centres[10], atol=1e-6)
    # At the end: the heading of a circle of radius 1 / 0.2, and half of way times angle aside.
    nose = turned.axes[-1, 0, 0] @ np.linalg.inv(figure.axes[-1, 0, 0])
    np.testing.assert_allclose(nose[:2, 0], [np.cos(0.2), np.sin(0.2)], atol=1e-4)
    middle = figure.centres[-1, 0, 0]
    expected = nose @ middle + [0, 0.1, 0]
    np.testing.assert_allclose(turned.centres[-1, 0, 0], expected, atol=1e-4)


def test_variety_puts_on_skirts_and_takes_them_off_again():
    style = WalkerStyle(variety=1.0)
    outfits = [[pick_skirt(0, s, c, style) is not None for c in CONDITIONS] for s in range(60)]
    worn = np.array(outfits)
    assert 0.05 < worn.mean() < 0.3
    assert (worn.any(axis=1) & ~worn.all(axis=1)).any()
    assert not any(pick_skirt(0, s, "nm-01", WalkerStyle()) for s in range(60))
    skeleton = walk(Body(), Gait(), np.zeros(1), dict.fromkeys(SIDES, 1.0))
    assert "skirt" in dress(Body(), skeleton, skirt=Skirt(1.5, 0.02)).names
