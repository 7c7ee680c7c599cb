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
        tracks: the usable walks, at least one, in order of their ends.
        rejected: the walks left out, each with the reason.
        frames: number of frames in the video.
        warning: anything odd about the file; None if all is well.
    """

    tracks: tuple[Track, ...]
    rejected: tuple[Rejection, ...]
    frames: int
    warning: str | None


@dataclasses.dataclass(frozen=True)
class Scene:
    """One frame and the people found in it, for drawing.

    Attributes:
        frame: its number, from 0.
        picture: uint8 [h, w, 3], BGR.
        people: everybody in the frame with a name; the name is None for possible noise.
    """

    frame: int
    picture: np.ndarray
    people: tuple[tuple[str | None, Sighting], ...]


def extract(source: str | Path | int, options: FootageOptions | None = None) -> Footage:
    """Finds the people who walk through a video, and extracts their silhouettes.

    Args:
        source: a video file, a folder of PNG masks, or the index of a camera, of which `options.max_frames`
            frames are read.
        options: how; FootageOptions() if None.

    Raises:
        DataError: it cannot be read, or it holds no usable walk.
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

    The rest of a walk is yielded at its end, if it is long enough. A yielded walk cannot be taken back, even
    if it turns out later that two people walked as one piece.

    Args:
        source: see `extract`; a camera goes on until it is gone.
        options: how; FootageOptions() if None.
        window: silhouettes in a walk.
        rejected: is called with each walk that is left out.

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
    """Yields every walk when it ends, usable or not; memory grows only with the people in sight.

    Args:
        source: see `extract`.
        options: how.
        window: number of silhouettes after which a walk is yielded before its end.
        watch: is called with every frame.

    Raises:
        DataError: the source cannot be read, or the camera is gone; earlier walks have been yielded.
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
            yield from book.end(tracker.finish())  # keeps the walks from before the camera went away
            raise
    yield from book.end(tracker.finish())


def early_end(source: str | Path | int, options: FootageOptions, frames: int) -> str | None:
    """Returns a warning if a video has fewer frames than its header promises."""
    promised = open_source(source, None).clock()[1]
    wanted = promised if options.max_frames is None else min(promised, options.max_frames)
    if frames >= 0.95 * wanted - 1:
        return None
    return f"{source}: ends after {frames} of {promised} frames; it may be cut off"


def nobody(rejected: Sequence[Rejection], frames: int) -> str:
    """Returns why there is no usable walk."""
    if not rejected:
        return f"nobody moves in its {frames} frames, or everybody is too small"
    best = max(rejected, key=lambda walk: walk.quality.frames)
    others = f"; {len(rejected) - 1} more were left out" if len(rejected) > 1 else ""
    return f"no walk in its {frames} frames is usable: {best.name}: {best.reason}{others}"
