"""Motion and looks of one tracked person, and how well a piece of the mask fits them."""

import collections
import dataclasses

import numpy as np

from mcl_jax.footage.people import Blob, Box

_MEMORY = 15  # number of latest sightings that give the velocity
_SETTLED = 5  # number of sightings after which it is trusted
_RENEWAL, _SLOW_RENEWAL = 0.15, 0.03  # weight of the newest sighting in looks and size

# Differences that count as one: in log height, in rows per height, in CIELAB units.
_SIZE_UNIT, _DEPTH_UNIT, _COLOUR_UNIT = 0.06, 0.05, 12.0


@dataclasses.dataclass
class Person:
    """A person who is being followed.

    Attributes:
        number: from 0, in order of appearance.
        box: where they were last seen.
        height, area: rows and pixels that they usually cover.
        colour: how they look, as `Blob.colour`.
        seen: number of frames in which they were seen.
        whole: number of these in which the edge of the picture did not cut them.
        cut: number of latest frames in which the edge has cut them.
        missed: number of latest frames in which they were not seen on their own.
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
        """Whether this is certainly a person, and not just a limb that enters first."""
        return self.whole >= _SETTLED

    def predict(self, frame: int) -> Box:
        """Returns where they are expected, at constant velocity."""
        right, down = self._velocity()
        last, middle, foot = self.places[-1]
        if len(self.places) >= _SETTLED:  # a mean place swings less than the last one
            frames, middles, feet = np.array(self.places).T
            last, middle, foot = frames.mean(), middles.mean(), feet.mean()
        middle, foot = middle + right * (frame - last), foot + down * (frame - last)
        return Box(middle - 0.5 * self.box.width, foot - self.height, self.box.width, self.height)

    def see(self, frame: int, blob: Blob, *, as_usual: bool = True) -> None:
        """Updates their place and looks; only the place if the edge cuts them.

        Args:
            frame: its number.
            blob: their piece of the mask.
            as_usual: whether its size is normal for them; otherwise the usual size changes only slowly.
        """
        self.seen += 1
        self.missed = 0
        self.cut = self.cut + 1 if blob.cut else 0
        self.box = blob.box
        self.places.append((frame, blob.box.middle, blob.box.foot))
        if blob.cut:
            self.height = max(self.height, blob.box.height)  # a person who is entering
            self.area = max(self.area, blob.area)
            return
        self.whole += 1
        weight = max(_RENEWAL, 1 / self.whole) if as_usual else _SLOW_RENEWAL
        self.height += weight * (blob.box.height - self.height)
        self.area += weight * (blob.area - self.area)
        self.colour = self.colour + weight * (blob.colour - self.colour)

    def _velocity(self) -> tuple[float, float]:
        """Returns their velocity, in columns and rows per frame."""
        if len(self.places) < _SETTLED:
            return 0.0, 0.0
        frames, middles, feet = np.array(self.places).T
        centred = frames - frames.mean()
        spread = float(centred @ centred)
        return float(centred @ middles) / spread, float(centred @ feet) / spread

    def unlikeness(self, frame: int, blob: Blob) -> float:
        """Returns how much a piece differs in size, depth and colour: 0 same, 1 in doubt, 3 another."""
        size = np.log(blob.box.height / self.height) / _SIZE_UNIT
        depth = (blob.box.foot - self.predict(frame).foot) / (_DEPTH_UNIT * self.height)
        colour = self.difference(blob) / _COLOUR_UNIT
        return float(min(abs(size), 4) + min(abs(depth), 4) + min(colour, 4))

    def difference(self, blob: Blob) -> float:
        """Returns how much the colours of a piece differ from theirs, in CIELAB units."""
        return float(np.linalg.norm(blob.colour - self.colour))

    def distance(self, frame: int, blob: Blob) -> float:
        """Returns how far a piece is from their expected place, in units of their height."""
        return abs(blob.box.middle - self.predict(frame).middle) / self.height
