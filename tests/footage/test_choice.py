"""Choosing walks from videos, in Python and on the command line."""

import numpy as np
import pytest

import mcl_jax
from mcl_jax.errors import DataError
from mcl_jax.footage import Footage, Quality, Track, choice

WALKER = np.zeros((6, 64, 64), np.uint8)
WALKER[:, 4:60, 24:40] = 255
NARROW = np.where(np.arange(64) < 34, WALKER, 0).astype(np.uint8)


@pytest.fixture
def video(tmp_path, monkeypatch):
    """A video in which two people walk, the second narrower."""
    tracks = tuple(
        Track(f"person-00{n}", frames, 0, np.arange(6), Quality(6, 0.0, 0.0))
        for n, frames in enumerate((WALKER, NARROW), start=1)
    )
    monkeypatch.setattr(choice, "extract", lambda _: Footage(tracks, (), 6, None))
    path = tmp_path / "two.mp4"
    path.write_bytes(b"video")
    return path


def test_a_video_is_a_walk_to_embed(toy_run, video):
    gait = mcl_jax.load(toy_run)
    assert np.array_equal(gait.embed(str(video), track="person-001"), gait.embed(WALKER))
    assert np.array_equal(gait.embed([video], track="person-002"), gait.embed(NARROW))
    with pytest.raises(
        DataError, match="2 people walk in it; choose one with track=…: person-001, person-002"
    ):
        gait.embed(video)


def test_of_several_people_one_is_chosen(video):
    assert [track.name for track in choice.walks_in(video)] == ["person-001", "person-002"]
    assert choice.only_walk_in(video, "person-002", choice="--track").name == "person-002"
    with pytest.raises(DataError, match="has no 'person-009'; there are person-001, person-002"):
        choice.walks_in(video, "person-009")
