"""Chooses whose walks to take from a video."""

from pathlib import Path

from mcl_jax.errors import DataError
from mcl_jax.footage.extraction import extract
from mcl_jax.footage.walks import Track


def walks_in(video: str | Path, person: str | None = None) -> tuple[Track, ...]:
    """Returns the walks of a video, of everybody or of one person, such as "person-001".

    Raises:
        DataError: if it cannot be read, or nobody, or not that person, walks in it.
    """
    tracks = extract(video).tracks
    chosen = tuple(each for each in tracks if person in (None, each.name))
    if not chosen:
        raise DataError(f"{video}: has no {person!r}; there are {_names(tracks)}")
    return chosen


def only_walk_in(video: str | Path, person: str | None = None, *, choice: str) -> Track:
    """Returns the walk of a video in which one person walks, or that of one of several people.

    Args:
        video: file.
        person: as of `walks_in`.
        choice: how the user says which person; for the message.

    Raises:
        DataError: as of `walks_in`, or if several people walk in it.
    """
    tracks = walks_in(video, person)
    if len(tracks) > 1:
        raise DataError(
            f"{video}: {len(tracks)} people walk in it; choose one with {choice}: {_names(tracks)}"
        )
    return tracks[0]


def _names(tracks: tuple[Track, ...]) -> str:
    return ", ".join(each.name for each in tracks)
