"""A gallery of people: enrol, rename, remove, identify."""

import dataclasses
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from mcl_jax.errors import DataError, UserError
from mcl_jax.gallery import store
from mcl_jax.gallery.calibration import Calibration
from mcl_jax.gallery.search import Search
from mcl_jax.gallery.store import Index, ModelId, WalkEntry
from mcl_jax.utils.digest import SHORT
from mcl_jax.utils.file_lock import locked

_LONGEST_NAME = 200


class NameTakenError(DataError):
    """Somebody in the gallery has the name already."""


@dataclasses.dataclass(frozen=True)
class Match:
    """A person of the gallery, and the distance of their nearest walk."""

    name: str
    distance: float


@dataclasses.dataclass(frozen=True)
class Answer:
    """The result of an identification: the nearest people, and the decision.

    Attributes:
        matches: the nearest people, the nearest first.
        name: the first of them, if the distance is within the threshold; None for "unknown", and if
            nothing was decided.
        threshold: the largest distance that is accepted; None if nothing was decided.
        far: false-accept rate of one comparison at the threshold, a share; None if unknown.
        walks: number of walks of the gallery that the walk was compared with.
    """

    matches: tuple[Match, ...]
    name: str | None
    threshold: float | None
    far: float | None
    walks: int

    @property
    def decided(self) -> bool:
        """Whether there was a threshold to decide with."""
        return self.threshold is not None

    def as_json(self) -> dict[str, Any]:
        """Returns the answer as plain values."""
        return dataclasses.asdict(self) | {"decided": self.decided}


class Gallery:
    """An opened gallery: a snapshot for reading; writes are checked against the state on disk.

    Attributes:
        path: its folder.
        model: the model that made its embeddings.
        calibration: its thresholds; None if it has none.
    """

    def __init__(self, path: Path):
        """Reads a gallery; use `open_gallery` instead."""
        self.path = path
        index = store.read_index(path)
        try:
            self._take(index)
        except DataError:
            # Somebody was deleted between the two reads, and the old array with them.
            if store.read_index(path).data == index.data:
                raise
            self._take(store.read_index(path))
        if not index.has_digest:
            logging.warning(
                "%s: from an earlier version, without a digest: damage to names or thresholds would go "
                "unnoticed; the next change of the gallery adds one",
                path / store.INDEX,
            )
        for one, other in _alike(self._names):
            logging.warning(
                "%s: the names %r and %r of two people differ only in spaces or in how letters are composed; "
                "rename one of them with mcl-jax gallery rename",
                path,
                one,
                other,
            )

    def _take(self, index: Index) -> None:
        self._index, self.model, self.calibration = index, index.model, index.calibration
        self._rows = store.read_rows(self.path, index)
        self._search: Search | None = None
        self._names = [walk.name for walk in index.walks]

    def people(self) -> dict[str, int]:
        """Returns the number of walks of each person, by name, in the order they were enrolled."""
        return dict(Counter(self._names))

    def check_model(self, digest: str, path: str) -> None:
        """Checks that embeddings come from the gallery's model.

        Raises:
            DataError: if they come from another.
        """
        if digest != self.model.digest:
            raise DataError(
                f"{self.path}: was made with the model {self.model.path} (digest "
                f"{self.model.digest[:SHORT]}), but {path} has digest {digest[:SHORT]}; give the gallery's "
                "model with --model, or make a new gallery"
            )

    def enroll(self, name: str, embeddings: np.ndarray, frames: Sequence[int], *, add: bool = False) -> str:
        """Adds a person, or more walks of a person.

        Args:
            name: the person's name; outer spaces are removed, and letters are composed (Unicode NFC).
            embeddings: float32 [n, parts, channels], one per walk.
            frames: [n], number of silhouettes of each walk.
            add: whether the person may exist already.

        Returns:
            The person's name in the gallery.

        Raises:
            NameTakenError: if the name exists already, and `add` is False.
            DataError: if the name is invalid, or the embeddings do not fit.
            UserError: if the gallery cannot be written.
        """
        normal = checked_name(name)
        shape = (len(frames), self.model.parts, self.model.channels)
        if embeddings.shape != shape or embeddings.dtype != np.float32 or not np.isfinite(embeddings).all():
            raise DataError(f"{self.path}: needs finite float32 embeddings of shape {shape}")
        known: str | None = None

        def write(index: Index) -> Index:
            nonlocal known
            known = _find(index, name)
            if known is not None and not add:
                raise NameTakenError(
                    f"{self.path}: {known!r} exists already; add walks to this person with --add, or "
                    "give another name"
                )
            new = tuple(
                WalkEntry(known or normal, int(count), store.checksum(row))
                for count, row in zip(frames, embeddings, strict=True)
            )
            store.append_rows(self.path, index, embeddings)
            return dataclasses.replace(index, walks=index.walks + new)

        self._write(write)
        return known or normal

    def rename(self, old: str, new: str) -> None:
        """Gives a person another name, normalised as in `enroll`.

        Raises:
            DataError: if there is no such person, or somebody else has the new name.
            UserError: if the gallery cannot be written.
        """
        normal = checked_name(new)

        def write(index: Index) -> Index:
            known = self._known(index, old)
            for walk in index.walks:
                if walk.name != known and _normal(walk.name) == normal:
                    raise DataError(f"{self.path}: {walk.name!r} exists already; give a name that nobody has")
            walks = (
                dataclasses.replace(walk, name=normal) if walk.name == known else walk for walk in index.walks
            )
            return dataclasses.replace(index, walks=tuple(walks))

        self._write(write)

    def delete(self, name: str) -> None:
        """Removes a person with all their walks; nothing about them stays in the folder.

        Raises:
            DataError: if there is no such person.
            UserError: if the gallery cannot be written.
        """

        def write(index: Index) -> Index:
            known = self._known(index, name)
            kept = [i for i, walk in enumerate(index.walks) if walk.name != known]
            return store.keep_rows(self.path, index, kept)

        self._write(write)

    def calibrate(self, calibration: Calibration) -> None:
        """Sets the thresholds.

        Raises:
            UserError: if the gallery cannot be written.
        """
        self._write(lambda index: dataclasses.replace(index, calibration=calibration))

    def check(self) -> None:
        """Reads all embeddings.

        Raises:
            DataError: if one is not as it was written.
        """
        for position in range(len(self._names)):
            self._check_rows(position, self._rows[position : position + 1])

    def identify(
        self,
        embedding: np.ndarray,
        *,
        far: float | None = None,
        threshold: float | None = None,
        top: int = 5,
    ) -> Answer:
        """Finds the people of the gallery whose walks are nearest to a walk.

        Args:
            embedding: float32 [parts, channels].
            far: false-accept rate of one comparison, which the calibration must have; None for its lowest.
            threshold: largest distance to accept, instead of `far`.
            top: number of people to name at most.

        Raises:
            DataError: if the embedding does not fit, the gallery is empty or damaged, or there is no
                threshold for the rate.
        """
        if not self._names:
            raise DataError(f"{self.path}: nobody is enrolled")
        if embedding.shape != (self.model.parts, self.model.channels):
            raise DataError(
                f"{self.path}: its embeddings are {self.model.parts} × {self.model.channels}, but this "
                f"one is {' × '.join(map(str, embedding.shape))}"
            )
        if threshold is None:
            far, threshold = self._threshold(far)
        metric = "euc" if self.calibration is None else self.calibration.metric
        if self._search is None:
            self._search = Search(self._rows, metric=metric, check=self._check_rows)
        distances = self._search.distances(embedding)
        matches = []
        for position in _nearest_of_each(self._names, distances, top):
            matches.append(Match(self._names[position], float(distances[position])))
        accepted = threshold is not None and matches[0].distance <= threshold
        name = matches[0].name if accepted else None
        return Answer(tuple(matches), name, threshold, far, len(self._names))

    def _threshold(self, far: float | None) -> tuple[float | None, float | None]:
        if self.calibration is None:
            if far is not None:
                raise DataError(
                    f"{self.path}: has no thresholds; set them with mcl-jax enroll --calibrate metrics.json"
                )
            return None, None
        rate = self.calibration.lowest_rate() if far is None else far
        return rate, self.calibration.threshold(rate)

    def _check_rows(self, start: int, rows: np.ndarray) -> None:
        for position, row in enumerate(rows, start):
            if store.checksum(row) != self._index.walks[position].crc:
                raise DataError(
                    f"{self.path}: a walk of {self._names[position]!r} is damaged; {store.REMEDY}"
                )

    def _known(self, index: Index, name: str) -> str:
        known = _find(index, name)
        if known is None:
            raise DataError(f"{self.path}: has nobody called {name!r}")
        return known

    def _write(self, change: Callable[[Index], Index]) -> None:
        with locked(self.path / store.LOCK):
            index = store.read_index(self.path)
            if index.model.digest != self.model.digest:
                raise DataError(f"{self.path}: another gallery has been put in its place")
            store.read_rows(self.path, index)  # do not append to an array that was cut off
            changed = change(index)
            store.write_index(self.path, changed)
            self._take(changed)


def open_gallery(path: str | Path, *, create: ModelId | None = None) -> Gallery:
    """Opens a gallery.

    Args:
        path: its folder.
        create: the model for a new gallery, which is made if there is none.

    Raises:
        DataError: if there is no gallery, or it is damaged or cut off.
        UserError: if it cannot be made.
    """
    folder = Path(path)
    if create is not None and not (folder / store.INDEX).exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder}: cannot be made: {error.strerror}") from None
        with locked(folder / store.LOCK):
            if not (
                folder / store.INDEX
            ).exists():  # checked again: another process may have made it meanwhile
                store.write_index(folder, Index(create, "embeddings-0.f32", (), None))
    return Gallery(folder)


def _nearest_of_each(names: Sequence[str], distances: np.ndarray, top: int) -> list[int]:
    """Returns the position of the nearest walk of each of the `top` nearest people, nearest first."""
    found: dict[str, int] = {}
    count = min(len(names), 4 * top)
    while True:
        # A partial sort is enough, unless the nearest walks belong to only a few people.
        chosen = np.argpartition(distances, count - 1)[:count] if count < len(names) else np.arange(count)
        found = {}
        for position in chosen[np.lexsort((chosen, distances[chosen]))].tolist():
            found.setdefault(names[position], position)
        if len(found) >= top or count == len(names):
            return list(found.values())[:top]
        count = min(len(names), 4 * count)


def _normal(name: str) -> str:
    """Returns one spelling for all names that look the same, without outer spaces."""
    return unicodedata.normalize("NFC", name).strip()


def checked_name(name: str) -> str:
    """Returns a person's name as a gallery spells it: composed (Unicode NFC), without outer spaces.

    Raises:
        DataError: if it cannot be a name.
    """
    normal = _normal(name)
    if not normal or not normal.isprintable() or len(normal) > _LONGEST_NAME:
        raise DataError(f"name: {name[:50]!r} is not valid; give 1 to {_LONGEST_NAME} printable characters")
    return normal


def _find(index: Index, name: str) -> str | None:
    """Returns a person's name as the gallery spells it, an exact match first; None if nobody has it."""
    names = {walk.name for walk in index.walks}
    if name in names:  # galleries of earlier versions may have several that look the same
        return name
    return next((known for known in sorted(names) if _normal(known) == _normal(name)), None)


def _alike(names: Sequence[str]) -> list[tuple[str, str]]:
    """Returns pairs of different names that have the same normal spelling."""
    first: dict[str, str] = {}
    different = [(first.setdefault(_normal(name), name), name) for name in dict.fromkeys(names)]
    return [(one, other) for one, other in different if one != other]
