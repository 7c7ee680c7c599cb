"""Walks and models given on a command line: a video, a pkl, or a folder of masks."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mcl_jax.api import Gait, load
from mcl_jax.data.prepare.single_walk import read_walk
from mcl_jax.data.sequences import CUT_SHAPE
from mcl_jax.errors import ConfigError, DataError
from mcl_jax.gallery.calibration import Calibration
from mcl_jax.gallery.store import ModelId
from mcl_jax.hub.fetch import published_of
from mcl_jax.hub.reference import is_elsewhere

PACKAGED = "the model in the package"
"""The model's name in a gallery, in place of its path, which differs between installations."""

_NOTE = (
    "the model in the package was trained on synthetic people only and often mistakes real ones: "
    "docs/model_card.md"
)

MIN_FRAMES = 15
"""The least number of silhouettes in a walk: half a gait cycle at 25 to 30 frames a second."""


@dataclasses.dataclass(frozen=True)
class Walk:
    """Silhouettes uint8 [s, 64, 64 or 44] of one person, with a label."""

    label: str
    silhouettes: np.ndarray


def read_walks(sources: Sequence[str], *, track: str | None = None) -> list[Walk]:
    """Reads all walks that the user named; a video gives one for each person in it.

    Args:
        sources: paths of pkl files, videos, or folders of masks (PNGs of one person, one per frame).
        track: use only this person of each video, such as "person-001".

    Raises:
        DataError: if one cannot be read, or is too short to judge.
    """
    walks: list[Walk] = []
    for source in sources:
        path = Path(source)
        if path.is_dir() or path.suffix.lower() == ".pkl" or not path.exists():
            walks.append(Walk(source, read_walk(path)))
        else:
            walks += _people(source, track)
    for walk in walks:
        frames = len(walk.silhouettes)
        if frames < MIN_FRAMES:
            raise DataError(
                f"{walk.label}: has {frames} silhouettes, too few to judge; it needs at least {MIN_FRAMES}"
            )
    return walks


def _people(video: str, track: str | None) -> list[Walk]:
    from mcl_jax.footage.choice import walks_in  # only for videos, since it loads OpenCV's video code

    return [Walk(f"{video}: {each.name}", each.silhouettes) for each in walks_in(video, track)]


def single_walk(source: str, *, track: str | None = None) -> Walk:
    """Reads a walk from a source that must hold exactly one.

    Raises:
        DataError: see `read_walks`; also if several people walk in it.
    """
    walks = read_walks([source], track=track)
    if len(walks) > 1:
        names = ", ".join(walk.label.removeprefix(f"{source}: ") for walk in walks)
        raise DataError(f"{source}: {len(walks)} people walk in it; choose one with --track: {names}")
    return walks[0]


def embed(gait: Gait, walks: Sequence[Walk]) -> np.ndarray:
    """Returns the embeddings float32 [n, parts, channels] of walks."""
    return gait.embed([walk.silhouettes for walk in walks])


def load_model(path: str | None) -> tuple[Gait, ModelId]:
    """Loads a model and its identity: path, digest and sizes.

    Args:
        path: a run or checkpoint, or the name of one to fetch; None, or `PACKAGED`, for the model in the
            package.

    Raises:
        CheckpointError: if it cannot be loaded.
        ConfigError: if it takes larger frames than walks on a command line have.
    """
    if path in (None, PACKAGED):
        gait, place = load(), PACKAGED
        print(_NOTE, file=sys.stderr)
    else:
        named = is_elsewhere(path) or published_of(path) is not None
        gait, place = load(path), path if named else str(Path(path).resolve())
    if gait.frame_shape != CUT_SHAPE:
        raise ConfigError(
            f"{path}: takes frames of {'×'.join(map(str, gait.frame_shape))}, but walks here are 64×44; use "
            "mcl-jax test, or mcl_jax.load and embed"
        )
    return gait, ModelId(place, gait.digest, gait.parts, gait.channels)


def own_thresholds(gait: Gait) -> Calibration | None:
    """Returns the thresholds that come with a model; None for one that has none."""
    if not gait.thresholds:
        return None
    return Calibration(gait.source, "euc", gait.thresholds, gait.digest)
