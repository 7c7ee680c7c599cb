"""Collects a person's sightings into walks of silhouettes, and judges whether a walk is usable."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from mcl_jax.data.prepare.silhouette import SkippedFrameError, normalize
from mcl_jax.footage.options import FootageOptions
from mcl_jax.footage.people import Blob
from mcl_jax.footage.tracker import Ending, Sighting

_FLICKER = 5  # frames: anything seen for a shorter time is noise, and gets no name
_WIDEST = 1.1  # largest width over height of a walker, in the middle of a walk
_LIVELIEST_STANDING = 4.0  # percent of change; a silhouette that changes less stands still


@dataclasses.dataclass(frozen=True)
class Quality:
    """Measures of how well a person was seen.

    Attributes:
        frames: number of silhouettes.
        border_cut: share of the person's frames in which the edge of the picture cut them.
        broken: share in which the person was lost, hidden, or joined to others.
    """

    frames: int
    border_cut: float
    broken: float


@dataclasses.dataclass(frozen=True)
class Track:
    """A walk of one person.

    Attributes:
        name: "person-001", … in order of appearance.
        silhouettes: uint8 [s, 64, 64], of the frames in which the person is whole and alone.
        first_frame: number of the first of these in the footage, from 0.
        frames: numbers of all of these, int64 [s].
        quality: of the whole walk, frames without a silhouette included.
    """

    name: str
    silhouettes: np.ndarray
    first_frame: int
    frames: np.ndarray
    quality: Quality


@dataclasses.dataclass(frozen=True)
class Rejection:
    """A walk that was left out."""

    name: str
    reason: str
    first_frame: int
    quality: Quality


@dataclasses.dataclass
class _Record:
    """The frames kept for a tracked person."""

    first_frame: int
    name: str | None = None
    silhouettes: list[np.ndarray] = dataclasses.field(default_factory=list)
    frames: list[int] = dataclasses.field(default_factory=list)
    shapes: list[float] = dataclasses.field(default_factory=list)  # width over height
    seen: int = 0
    cut: int = 0
    broken: int = 0
    trailing: int = 0  # frames out of sight at the end, not part of the walk

    def quality(self) -> Quality:
        broken = self.broken - self.trailing
        followed = max(1, len(self.silhouettes) + self.cut + broken)
        return Quality(len(self.silhouettes), self.cut / followed, broken / followed)


class WalkBook:
    """Collects the silhouettes of everybody who is followed.

    Args:
        options: say which walks are good enough.
        window: number of silhouettes after which a walk is returned and a new one begins; None waits for
            the end of the walk.
    """

    def __init__(self, options: FootageOptions, window: int | None = None) -> None:
        self._options, self._window = options, window
        self._records: dict[int, _Record] = {}
        self._named = 0

    def name(self, number: int) -> str | None:
        """Returns the name of a person; None while it may still be noise."""
        record = self._records.get(number)
        return record.name if record else None

    def add(self, frame: int, sightings: list[Sighting]) -> Iterator[Track | Rejection]:
        """Adds the sightings of a frame; yields walks that have reached the window."""
        for sighting in sightings:
            record = self._records.setdefault(sighting.number, _Record(frame))
            self._add(record, frame, sighting)
            if self._window and len(record.silhouettes) == self._window:
                yield self._judge(record, None)
                self._records[sighting.number] = _Record(frame + 1, record.name, seen=record.seen)

    def end(self, endings: list[Ending]) -> Iterator[Track | Rejection]:
        """Ends people who are no longer followed; yields their walks, except noise."""
        for ending in endings:
            record = self._records.pop(ending.number)
            if record.name and (record.silhouettes or record.cut or not self._window):
                yield self._judge(record, ending.reason)

    def _add(self, record: _Record, frame: int, sighting: Sighting) -> None:
        if sighting.blob is not None:
            record.seen += 1
            record.trailing = 0
        if record.name is None and record.seen >= _FLICKER:
            self._named += 1
            record.name = f"person-{self._named:03d}"
        if sighting.state == "cut":
            record.cut += 1
        silhouette = sighting.blob and sighting.state == "sound" and _silhouette(sighting.blob)
        if isinstance(silhouette, np.ndarray):
            record.silhouettes.append(silhouette)
            record.frames.append(frame)
            record.shapes.append(sighting.box.width / sighting.box.height)
        elif sighting.state != "cut":
            record.broken += 1
            record.trailing += sighting.blob is None

    def _judge(self, record: _Record, reason: str | None) -> Track | Rejection:
        assert record.name is not None  # both callers have made sure
        quality = record.quality()
        reason = reason or self._fault(record, quality)
        if reason:
            return Rejection(record.name, reason, record.first_frame, quality)
        return Track(
            record.name,
            np.stack(record.silhouettes),
            record.frames[0],
            np.array(record.frames, np.int64),
            quality,
        )

    def _fault(self, record: _Record, quality: Quality) -> str | None:
        least = (
            self._options.min_frames if self._window is None else min(self._options.min_frames, self._window)
        )
        if quality.border_cut > self._options.max_border_cut:
            return f"cut by the edge of the picture in {quality.border_cut:.0%} of the frames"
        if quality.broken > self._options.max_broken:
            return f"lost, hidden or joined to others in {quality.broken:.0%} of the frames"
        if quality.frames < least:
            return f"too short to judge: {quality.frames} silhouettes; at least {least} are needed"
        if (shape := float(np.median(record.shapes))) > _WIDEST:
            return f"not the shape of a walking person: {shape:.1f} times as wide as high"
        if _liveliness(record.silhouettes) < _LIVELIEST_STANDING:
            return "stands still, or is not a person: the silhouette does not change"
        return None


def _silhouette(blob: Blob) -> np.ndarray | None:
    """Returns the silhouette [64, 64] of a piece of the mask, or None if it cannot be made."""
    # As wide as the picture, so that preparation gives the same as for a mask of the whole picture.
    mask = np.zeros((len(blob.mask), blob.columns), np.uint8)
    left = round(blob.box.left)
    mask[:, left : left + blob.mask.shape[1]] = blob.mask
    try:
        return normalize(mask)
    except SkippedFrameError:
        return None


def _liveliness(silhouettes: list[np.ndarray]) -> float:
    """Returns how much a silhouette changes over three frames, in percent of its area."""
    stack = np.stack(silhouettes).astype(np.float32)
    if len(stack) < 4:
        return 100.0
    change = np.abs(stack[3:] - stack[:-3]).sum()
    return float(100 * change / max(1.0, stack[3:].sum()))
