"""Tracks people from frame to frame.

Each piece of the mask goes to the person whose predicted place, at constant velocity, it overlaps most. When
people merge into one piece, they form a group until the pieces part again. A person is then followed further
only if size, depth and colour clearly say which piece is theirs, and the walking direction agrees. Otherwise
everybody in the group ends, and new people begin. So identities are never swapped silently.

References:
    Bewley et al., "Simple Online and Realtime Tracking", 2016, for assignment by overlap.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np

from mcl_jax.footage.motion import Person
from mcl_jax.footage.people import Blob, Box

MAX_MISSED = 10
"""Number of frames that a person may be out of sight."""

_LEAST_OVERLAP = 0.15
_COVERED = 0.5  # share of a person that a piece must cover to hide them
_GROUP_LIMIT = 4  # largest group whose possible assignments are compared
_MARGIN = 2.0  # between the best assignment and the next, in units of `Person.unlikeness`
_PERSON_SHARE = 0.7  # least height of a piece that is a person, as a share of the person's height
_PIECE_SHARE = 0.8  # share of the usual area below which a person has fallen apart
_SUDDEN = 1  # frames: a person out of sight for longer is not hidden by somebody who arrives now
_OTHER_CLOTHES = 45.0  # CIELAB units
_WIDEST = 1.1  # largest width over height of a walker
_SIZE_CHANGE = 0.2, 0.3  # changes of height and area from which a piece is not exactly one person

State = Literal["sound", "cut", "broken"]
Match = tuple[Person, Blob]


@dataclasses.dataclass(frozen=True)
class Sighting:
    """A person in a frame.

    Attributes:
        number: the person's number.
        state: "sound"; "cut" by the edge of the picture; or "broken": hidden, lost, or joined to others.
        box: where they are, or are expected.
        blob: their piece of the mask; None if broken.
    """

    number: int
    state: State
    box: Box
    blob: Blob | None


@dataclasses.dataclass(frozen=True)
class Ending:
    """A person who is no longer followed; `reason` says why their walk is unusable, if it is."""

    number: int
    reason: str | None = None


@dataclasses.dataclass
class _Group:
    """People who have merged into one piece of the mask."""

    members: list[Person]
    box: Box


class Tracker:
    """Follows people; give it every frame in order."""

    def __init__(self) -> None:
        self._people: list[Person] = []
        self._groups: list[_Group] = []
        self._numbers = itertools.count()

    def step(self, frame: int, blobs: Sequence[Blob]) -> tuple[list[Sighting], list[Ending]]:
        """Takes in the pieces of a frame.

        Returns:
            The people of the frame with their places, and the people who are no longer followed.
        """
        endings: list[Ending] = []
        matches, free = self._resolve_groups(frame, list(blobs), endings)
        found, free = _assign([p for p in self._people if not _has(matches, p)], free, frame)
        matches += found
        free = self._part(matches, free, endings)
        self._merge(frame, matches, endings)
        matches += self._begin(frame, free)
        sightings = self._update(frame, matches, endings)
        return sightings, endings

    def finish(self) -> list[Ending]:
        """Ends everybody who is still followed."""
        members = [person for group in self._groups for person in group.members]
        return [Ending(person.number) for person in (*self._people, *members)]

    def _resolve_groups(
        self, frame: int, blobs: list[Blob], endings: list[Ending]
    ) -> tuple[list[Match], list[Blob]]:
        """Finds the pieces of each group; if there are several, assigns them to its members."""
        matches: list[Match] = []
        for group in list(self._groups):
            least = _PERSON_SHARE * min(person.height for person in group.members)
            pieces = [b for b in blobs if _lies_in(b.box, group.box) and (b.cut or b.box.height >= least)]
            # Somebody else may walk close by.
            pieces = [
                b for b in pieces if not any(p.predict(frame).overlap(b.box) > 0.5 for p in self._people)
            ]
            blobs = [blob for blob in blobs if not any(blob is piece for piece in pieces)]
            if len(pieces) == 1:
                group.box = pieces[0].box
                if len(group.members) > 1 and _is_one(group, pieces[0], frame):
                    self._groups.remove(group)
                    endings += [Ending(person.number) for person in group.members]
                    blobs.append(pieces[0])
                continue
            if not pieces:
                for person in group.members:
                    person.missed += 1
                if group.members[0].missed <= MAX_MISSED:
                    continue
            self._groups.remove(group)
            way = _way_out(group.members, pieces, frame)
            if way is None:
                endings += [Ending(person.number) for person in group.members]
                blobs += pieces
            else:
                self._people += group.members
                matches += way
        return matches, blobs

    def _part(self, matches: list[Match], free: list[Blob], endings: list[Ending]) -> list[Blob]:
        """Ends each person who splits in two: they were several people who entered as one piece."""
        for person, blob in list(matches):
            least = _PERSON_SHARE * person.height
            others = [b for b in free if _lies_in(b.box, person.box) and b.box.height >= least]
            shrunk = blob.area < _PIECE_SHARE * person.area  # otherwise somebody comes out from behind them
            if others and shrunk and person.missed == 0:
                matches.remove((person, blob))
                self._people.remove(person)
                endings.append(Ending(person.number, "several people walk as one piece"))
                free.append(blob)
        return free

    def _merge(self, frame: int, matches: list[Match], endings: list[Ending]) -> None:
        """Makes a group of people who have merged into one piece."""
        for person in [person for person in self._people if not _has(matches, person)]:
            box = person.predict(frame)
            least = _COVERED * box.width * box.height
            groups = [group for group in self._groups if group.box.shared(box) >= least]
            hiding = [
                (other, blob)
                for other, blob in matches
                if blob.box.shared(box) >= least and (other.is_settled or _looks_like(person, blob))
            ]
            if person.missed > _SUDDEN or not (groups or hiding):
                continue
            self._people.remove(person)
            if not person.is_settled:
                endings.append(Ending(person.number))  # a limb that came in before the body
            elif groups:
                groups[0].members.append(person)
            else:
                other, blob = max(hiding, key=lambda match: match[1].box.shared(box))
                matches.remove((other, blob))
                self._people.remove(other)
                if other.is_settled:
                    self._groups.append(_Group([other, person], blob.box))
                else:
                    endings.append(Ending(other.number))
                    self._people.append(person)
                    matches.append((person, blob))

    def _begin(self, frame: int, free: list[Blob]) -> list[Match]:
        matches = [(Person.of(next(self._numbers), frame, blob), blob) for blob in free]
        self._people += [person for person, _ in matches]
        return matches

    def _update(self, frame: int, matches: list[Match], endings: list[Ending]) -> list[Sighting]:
        sightings = []
        for person, blob in matches:
            state = _state(person, blob)
            sightings.append(Sighting(person.number, state, blob.box, blob))
            if person.places[-1][0] != frame:  # otherwise they have just begun
                person.see(frame, blob, as_usual=state != "broken")
            if person.is_settled and person.cut > MAX_MISSED:
                # They are leaving; a whole person there afterwards may be somebody else who came in.
                self._people.remove(person)
                endings.append(Ending(person.number))
        for person in [person for person in self._people if not _has(matches, person)]:
            person.missed += 1
            if person.missed > MAX_MISSED:
                self._people.remove(person)
                endings.append(Ending(person.number))
            else:
                sightings.append(Sighting(person.number, "broken", person.predict(frame), None))
        for group in self._groups:
            for person in group.members:
                sightings.append(Sighting(person.number, "broken", person.predict(frame), None))
        return sorted(sightings, key=lambda sighting: sighting.number)


def _has(matches: Sequence[Match], person: Person) -> bool:
    return any(matched is person for matched, _ in matches)


def _looks_like(person: Person, blob: Blob) -> bool:
    """Whether the clothes may be theirs; at the edge of the picture too little may be visible."""
    return not person.is_settled or blob.cut or person.difference(blob) < _OTHER_CLOTHES


def _lies_in(inner: Box, outer: Box) -> bool:
    return inner.shared(outer) >= 0.5 * inner.width * inner.height


def _assign(people: list[Person], blobs: list[Blob], frame: int) -> tuple[list[Match], list[Blob]]:
    """Returns the assignment of the largest overlaps, and the pieces that are left."""
    boxes = [person.predict(frame) for person in people]
    overlap = np.zeros((len(people), len(blobs)))
    for row, (person, box) in enumerate(zip(people, boxes, strict=True)):
        for column, blob in enumerate(blobs):
            if _looks_like(person, blob):
                overlap[row, column] = box.overlap(blob.box)
    from scipy.optimize import (
        linear_sum_assignment,
    )  # slow to import, and the network process does not need it

    rows, columns = linear_sum_assignment(overlap, maximize=True)
    pairs = [(r, c) for r, c in zip(rows, columns, strict=True) if overlap[r, c] >= _LEAST_OVERLAP]
    taken = {column for _, column in pairs}
    return [(people[r], blobs[c]) for r, c in pairs], [b for c, b in enumerate(blobs) if c not in taken]


def _state(person: Person, blob: Blob) -> State:
    if blob.cut:
        return "cut"
    if blob.box.width > _WIDEST * blob.box.height:
        return "broken"
    by_height, by_area = _SIZE_CHANGE
    fits = (
        abs(blob.box.height / person.height - 1) <= by_height and abs(blob.area / person.area - 1) <= by_area
    )
    return "sound" if fits or person.seen < 3 else "broken"


def _is_one(group: _Group, piece: Blob, frame: int) -> bool:
    """Whether a piece can be only one person of the group, because the others left the picture."""
    apart = [
        abs(a.predict(frame).middle - b.predict(frame).middle) for a, b in itertools.pairwise(group.members)
    ]
    return min(apart) > 2 * piece.box.width


def _way_out(members: list[Person], pieces: list[Blob], frame: int) -> list[Match] | None:
    """Returns which member of a group is which piece, or None if that is unclear."""
    if len(members) != len(pieces) or len(members) > _GROUP_LIMIT:
        return None
    if any(piece.cut for piece in pieces):
        return None
    ways = list(itertools.permutations(pieces))

    def unlikeness(way: Sequence[Blob]) -> float:
        return sum(p.unlikeness(frame, blob) for p, blob in zip(members, way, strict=True))

    def distance(way: Sequence[Blob]) -> float:
        return sum(p.distance(frame, blob) for p, blob in zip(members, way, strict=True))

    best, second = sorted(ways, key=unlikeness)[:2]
    if unlikeness(second) - unlikeness(best) < _MARGIN:
        return None
    # Half a height is more than the sway of a walk, so then motion counts too.
    if min(map(distance, ways)) < distance(best) - 0.5:
        return None
    return list(zip(members, best, strict=True))
