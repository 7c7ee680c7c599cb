"""Extracts walks from footage: source → mask → pieces → people → silhouettes."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from mcl_jax.errors import DataError
from mcl_jax.footage.options import FootageOptions
from mcl_jax.footage.people import find_blobs
from mcl_jax.footage.segmentation import segment
from mcl_jax.footage.sources import open_source
from mcl_jax.footage.tracker import Sighting, Tracker
from mcl_jax.footage.walks import Rejection, Track, WalkBook


@dataclasses.dataclass(frozen=True)
class Footage:
    """Walks found in one video.

    Attributes:
        tracks: the walks that are good enough, at least one, in order of their ends.
        rejected: those that are not, with the reason.
        frames: how many there were.
        warning: what is odd about the file; None for nothing.
    """

    tracks: tuple[Track, ...]
    rejected: tuple[Rejection, ...]
    frames: int
    warning: str | None


@dataclasses.dataclass(frozen=True)
class Scene:
    """One frame as it was understood; for pictures of it.

    Attributes:
        frame: its number, from 0.
        picture: uint8 [h, w, 3], BGR.
        people: everybody in it, with their names; None for what may be noise.
    """

    frame: int
    picture: np.ndarray
    people: tuple[tuple[str | None, Sighting], ...]


def extract(source: str | Path | int, options: FootageOptions | None = None) -> Footage:
    """Finds the people who walk through a video, and takes their silhouettes.

    Args:
        source: a video file, a folder of PNG masks, or the index of a camera, of which `options.max_frames`
            frames are read.
        options: how; FootageOptions() if None.

    Raises:
        DataError: it cannot be read, or nobody walks in it whose silhouettes are of use.
    """
    options = options or FootageOptions()
    if open_source(source, None).is_camera and options.max_frames is None:
        raise DataError(f"camera {source}: give max_frames, since it has no end; or use stream")
    frames = 0

    def count(_: Scene) -> None:
        nonlocal frames
        frames += 1

    walks = list(find_walks(source, options, watch=count))
    tracks = tuple(walk for walk in walks if isinstance(walk, Track))
    rejected = tuple(walk for walk in walks if isinstance(walk, Rejection))
    if not tracks:
        raise DataError(f"{source}: {nobody(rejected, frames)}")
    return Footage(tracks, rejected, frames, early_end(source, options, frames))


def stream(
    source: str | Path | int,
    options: FootageOptions | None = None,
    *,
    window: int,
    rejected: Callable[[Rejection], None] | None = None,
) -> Iterator[Track]:
    """Yields a walk as soon as it has `window` silhouettes, then the next ones of the same person and name.

    The rest of a walk is yielded at its end, if it is long enough. What is only seen afterwards, as that two
    people came as one piece, cannot be taken back.

    Args:
        source: as of `extract`; a camera goes on until it is gone.
        options: how; FootageOptions() if None.
        window: silhouettes in a walk.
        rejected: is called with what is left out.

    Raises:
        DataError: the source cannot be read, or the camera is gone.
    """
    if window < 1:
        raise DataError(f"window: is {window}; must be at least 1")
    for walk in find_walks(source, options or FootageOptions(), window=window):
        if isinstance(walk, Track):
            yield walk
        elif rejected:
            rejected(walk)


def find_walks(
    source: str | Path | int,
    options: FootageOptions,
    *,
    window: int | None = None,
    watch: Callable[[Scene], None] | None = None,
) -> Iterator[Track | Rejection]:
    """Yields every walk when it ends, of use or not; memory grows with the people in sight alone.

    Args:
        source: as of `extract`.
        options: how.
        window: silhouettes after which a walk is handed out before its end.
        watch: is called with every frame.

    Raises:
        DataError: the source cannot be read, or a camera is gone; the walks so far have been yielded then.
    """
    tracker, book = Tracker(), WalkBook(options, window)
    frames = segment(open_source(source, options.max_frames), options)
    with contextlib.closing(frames):
        try:
            for number, (picture, mask) in enumerate(frames):
                sightings, endings = tracker.step(number, find_blobs(picture, mask, options.min_height))
                yield from book.add(number, sightings)
                if watch:
                    people = tuple((book.name(sighting.number), sighting) for sighting in sightings)
                    watch(Scene(number, picture, people))
                yield from book.end(endings)
        except DataError:
            yield from book.end(tracker.finish())  # what came before a camera went is not lost
            raise
    yield from book.end(tracker.finish())


def early_end(source: str | Path | int, options: FootageOptions, frames: int) -> str | None:
    """Says that a video has fewer frames than its head promises, if it has."""
    promised = open_source(source, None).clock()[1]
    wanted = promised if options.max_frames is None else min(promised, options.max_frames)
    if frames >= 0.95 * wanted - 1:
        return None
    return f"{source}: ends after {frames} of {promised} frames; it may be cut off"


def nobody(rejected: Sequence[Rejection], frames: int) -> str:
    """Says that there is no walk of use, and why."""
    if not rejected:
        return f"nobody moves in its {frames} frames, or nobody is high enough"
    best = max(rejected, key=lambda walk: walk.quality.frames)
    others = f"; {len(rejected) - 1} more are no better" if len(rejected) > 1 else ""
    return f"no walk in its {frames} frames is of use: {best.name}: {best.reason}{others}"
