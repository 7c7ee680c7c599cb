import numpy as np
import pytest

from mcl_jax.footage.people import Blob, Box, find_blobs
from mcl_jax.footage.tracker import MAX_MISSED, Tracker

GREY, RED = np.zeros(6), np.tile([0.0, 40.0, 20.0], 2)


def blob(middle, height=100, foot=200, width=None, colour=GREY, cut=False):
    width = width or round(0.4 * height)
    box = Box(middle - width / 2, foot - height, width, height)
    return Blob(box, np.full((height, width), 255, np.uint8), colour, 500, cut)


def follow(frames):
    """Returns the numbers that were seen on their own in each frame, by place, and all endings."""
    tracker, seen, endings = Tracker(), [], []
    for number, blobs in enumerate(frames):
        sightings, ended = tracker.step(number, blobs)
        seen.append([s.number for s in sorted(sightings, key=lambda s: s.box.middle) if s.blob is not None])
        endings += ended
    return seen, endings


def meeting(first, second):
    """Two who walk towards each other, are one piece for a while, and go on."""
    frames = []
    for t in range(60):
        left, right = 100 + 4 * t, 340 - 4 * t
        if abs(left - right) < 45:
            height = max(first["height"], second["height"])
            frames.append([blob((left + right) / 2, height=height, width=40 + abs(left - right))])
        else:
            frames.append(sorted([blob(left, **first), blob(right, **second)], key=lambda b: b.box.left))
    return frames


@pytest.mark.parametrize(
    "second",
    [
        {"height": 80, "foot": 185},  # apart in depth
        {"height": 101, "colour": RED},  # in other clothes
    ],
)
def test_they_go_on_where_they_differ(second):
    seen, endings = follow(meeting({"height": 100}, second))
    assert seen[0] == [0, 1]
    assert seen[30] == []
    assert seen[-1] == [1, 0]
    assert not endings


def test_equals_end_where_they_meet():
    seen, endings = follow(meeting({"height": 100}, {"height": 101}))
    assert seen[0] == [0, 1]
    assert sorted(ending.number for ending in endings) == [0, 1]
    assert all(ending.reason is None for ending in endings)  # what was before is of use
    assert sorted(seen[-1]) == [2, 3]


def test_looks_against_the_direction_end_both():
    """They turn round while they are one piece, or changed places in looks: nobody can tell."""
    frames = meeting({"height": 100}, {"height": 80, "foot": 185})
    turned = [blobs[::-1] for blobs in frames]
    half = len(frames) // 2
    after = [
        [
            blob(b.box.middle, height=int(o.box.height), foot=int(o.box.foot))
            for b, o in zip(x, y, strict=True)
        ]
        for x, y in zip(frames[half:], turned[half:], strict=True)
    ]
    seen, endings = follow(frames[:half] + after)
    assert sorted(ending.number for ending in endings) == [0, 1]
    assert sorted(seen[-1]) == [2, 3]


def test_a_piece_that_falls_in_two_was_never_one_person():
    together = [[blob(100 + 3 * t, width=70)] for t in range(10)]
    apart = [[blob(80 + 3 * t, width=30), blob(120 + 3 * t, width=30)] for t in range(10, 15)]
    _, endings = follow(together + apart)
    assert [(e.number, e.reason) for e in endings] == [(0, "several people walk as one piece")]


def test_somebody_out_of_sight_is_waited_for_but_not_for_long():
    walk = [[blob(100 + 4 * t)] for t in range(60)]
    short = [[] if 20 <= t < 20 + MAX_MISSED else walk[t] for t in range(60)]
    seen, endings = follow(short)
    assert seen[-1] == [0]
    assert not endings
    long = [[] if 20 <= t < 21 + MAX_MISSED else walk[t] for t in range(60)]
    seen, endings = follow(long)
    assert seen[-1] == [1]
    assert [ending.number for ending in endings] == [0]


def test_other_clothes_are_another_person():
    seen, endings = follow([[blob(100 + 2 * t, colour=GREY if t < 20 else 2 * RED)] for t in range(40)])
    assert (seen[19], seen[20]) == ([0], [1])
    assert [ending.number for ending in endings] == [0]


def test_what_is_not_the_whole_person_is_broken():
    tracker = Tracker()
    states = []
    for t in range(20):
        height = 60 if t in (10, 11) else 100
        sightings, _ = tracker.step(t, [blob(100 + t, height=height, foot=160 if height == 60 else 200)])
        states.append(sightings[0].state)
    assert [t for t, state in enumerate(states) if state == "broken"] == [10, 11]


def test_pieces_above_each_other_are_one_person():
    mask = np.zeros((200, 200), np.uint8)
    mask[50:90, 90:120] = mask[95:150, 92:118] = 255  # cut by a belt as bright as the wall
    mask[60:150, 150:180] = 255  # somebody else
    mask[10:12, 10:12] = 255  # a speck
    picture = np.zeros((200, 200, 3), np.uint8)
    first, second = find_blobs(picture, mask, 40)
    assert (first.box, second.box) == (Box(90, 50, 30, 100), Box(150, 60, 30, 90))
    assert first.mask[42].max() == 0  # the belt stays a gap
    assert not first.cut


def test_the_edge_cuts():
    mask = np.zeros((100, 100), np.uint8)
    mask[20:80, 0:20] = 255
    (found,) = find_blobs(np.zeros((100, 100, 3), np.uint8), mask, 40)
    assert found.cut
