"""Motion of one tracked person, and how well a piece of the mask fits it."""

import collections
import dataclasses

import numpy as np

from mcl_jax.footage.people import Blob, Box

_MEMORY = 15  # sightings from which the velocity is taken
_SETTLED = 5  # sightings after which it is trusted
_RENEWAL, _SLOW_RENEWAL = 0.15, 0.03  # weight of the newest sighting in looks and size

# Differences that count as one: in log height, in rows per height, in CIELAB units.
_SIZE_UNIT, _DEPTH_UNIT, _COLOUR_UNIT = 0.06, 0.05, 12.0


@dataclasses.dataclass
class Person:
    """Somebody who is followed.

    Attributes:
        number: from 0, in order of appearance.
        box: where they were seen last.
        height, area: rows and pixels that they usually fill.
        colour: how they look, as `Blob.colour`.
        seen: in how many frames.
        whole: in how many of these no edge of the picture cut them.
        cut: for how many frames the edge has cut them.
        missed: for how many frames they have not been seen on their own.
    """

    number: int
    box: Box
    height: float
    area: float
    colour: np.ndarray
    seen: int = 0
    whole: int = 0
    cut: int = 0
    missed: int = 0
    places: collections.deque[tuple[int, float, float]] = dataclasses.field(
        default_factory=lambda: collections.deque(maxlen=_MEMORY)
    )

    @classmethod
    def of(cls, number: int, frame: int, blob: Blob) -> "Person":
        """A person seen for the first time."""
        person = cls(number, blob.box, blob.box.height, float(blob.area), blob.colour)
        person.see(frame, blob)
        return person

    @property
    def is_settled(self) -> bool:
        """Whether this is a person for sure, and not a limb that comes in first."""
        return self.whole >= _SETTLED

    def predict(self, frame: int) -> Box:
        """Returns where they should be, at constant velocity."""
        right, down = self._velocity()
        last, middle, foot = self.places[-1]
        if len(self.places) >= _SETTLED:  # the mean of what was seen swings less than the last place
            frames, middles, feet = np.array(self.places).T
            last, middle, foot = frames.mean(), middles.mean(), feet.mean()
        middle, foot = middle + right * (frame - last), foot + down * (frame - last)
        return Box(middle - 0.5 * self.box.width, foot - self.height, self.box.width, self.height)

    def see(self, frame: int, blob: Blob, *, as_usual: bool = True) -> None:
        """Takes in where they are and how they look; of a person whom the edge cuts, only where.

        Args:
            frame: when.
            blob: the piece that they are.
            as_usual: whether its size is theirs; else it changes what is usual but slowly.
        """
        self.seen += 1
        self.missed = 0
        self.cut = self.cut + 1 if blob.cut else 0
        self.box = blob.box
        self.places.append((frame, blob.box.middle, blob.box.foot))
        if blob.cut:
            self.height = max(self.height, blob.box.height)  # somebody who comes in
            self.area = max(self.area, blob.area)
            return
        self.whole += 1
        weight = max(_RENEWAL, 1 / self.whole) if as_usual else _SLOW_RENEWAL
        self.height += weight * (blob.box.height - self.height)
        self.area += weight * (blob.area - self.area)
        self.colour = self.colour + weight * (blob.colour - self.colour)

    def _velocity(self) -> tuple[float, float]:
        """Columns and rows a frame."""
        if len(self.places) < _SETTLED:
            return 0.0, 0.0
        frames, middles, feet = np.array(self.places).T
        centred = frames - frames.mean()
        spread = float(centred @ centred)
        return float(centred @ middles) / spread, float(centred @ feet) / spread

    def unlikeness(self, frame: int, blob: Blob) -> float:
        """Returns how far a piece is from their size, depth and colour: 0 the same, 1 a doubt, 3 another."""
        size = np.log(blob.box.height / self.height) / _SIZE_UNIT
        depth = (blob.box.foot - self.predict(frame).foot) / (_DEPTH_UNIT * self.height)
        colour = self.difference(blob) / _COLOUR_UNIT
        return float(min(abs(size), 4) + min(abs(depth), 4) + min(colour, 4))

    def difference(self, blob: Blob) -> float:
        """Returns how far the colours of a piece are from theirs, CIELAB units."""
        return float(np.linalg.norm(blob.colour - self.colour))

    def distance(self, frame: int, blob: Blob) -> float:
        """Returns how far a piece is from where they should be, in heights."""
        return abs(blob.box.middle - self.predict(frame).middle) / self.height
