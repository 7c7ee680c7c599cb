"""The gallery behind the service: read again as soon as its files change, written under its own lock."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from absl import logging

from mcl_jax.errors import UserError
from mcl_jax.gallery.calibration import Calibration
from mcl_jax.gallery.gallery import Answer, Gallery, NameTakenError, checked_name, open_gallery
from mcl_jax.gallery.store import INDEX, ModelId
from mcl_jax.serving.limits import RequestError


class People:
    """The people that the service knows.

    A person who was removed or renamed by another program is so in the next answer, too. One answer is made
    at a time, since all of them need the whole gallery.
    """

    def __init__(self, folder: str | Path, model: ModelId):
        """Opens the gallery, which must have been made with the model.

        Raises:
            DataError: if it cannot be opened, or is of another model.
        """
        self._folder, self._model = Path(folder), model
        self._lock = threading.Lock()
        self._state = self._stamp()
        self._gallery = self._open()

    def identify(
        self, embeddings: Sequence[np.ndarray], *, far: float | None, threshold: float | None, top: int
    ) -> list[Answer]:
        """Returns an answer for each embedding [parts, channels]; see `Gallery.identify`.

        Raises:
            RequestError: if nobody is enrolled, the gallery has no threshold for the rate, or it cannot be
                read.
        """
        with self._current() as gallery:
            if not gallery.people():
                raise RequestError(409, "nobody is enrolled yet; enrol somebody first")
            if threshold is None:
                _check_rate(gallery.calibration, far)
            return [
                gallery.identify(embedding, far=far, threshold=threshold, top=top) for embedding in embeddings
            ]

    def decision(self, far: float | None) -> tuple[str, float | None, float | None]:
        """Returns metric, threshold and false-accept rate to compare two walks by.

        Args:
            far: the rate; None for the lowest that has a threshold.

        Returns:
            The metric; and None twice if the gallery has no thresholds.

        Raises:
            RequestError: if the gallery has no threshold for the rate, or cannot be read.
        """
        with self._current() as gallery:
            _check_rate(gallery.calibration, far)
            if gallery.calibration is None:
                return "euc", None, None
            rate = gallery.calibration.lowest_rate() if far is None else far
            return gallery.calibration.metric, gallery.calibration.threshold(rate), rate

    def enroll(
        self, name: str, embeddings: np.ndarray, frames: Sequence[int], *, add: bool
    ) -> tuple[str, int, int]:
        """Adds a person, or walks of a person; see `Gallery.enroll`.

        Returns:
            The name as the gallery has it, the number of this person's walks, and of people.

        Raises:
            DataError: if it cannot be a name.
            RequestError: if somebody has the name and `add` is False, or the gallery cannot be written.
        """
        name = checked_name(name)
        with _in_words():
            # A gallery of its own, since one that is being read must not change.
            gallery = self._open()
            try:
                known = gallery.enroll(name, embeddings, frames, add=add)
            except NameTakenError:
                raise RequestError(
                    409, "name: somebody has it already; send add=true for more walks, or give another name"
                ) from None
            people = gallery.people()
        return known, people[known], len(people)

    @contextlib.contextmanager
    def _current(self) -> Iterator[Gallery]:
        with self._lock, _in_words():
            if (state := self._stamp()) != self._state:
                self._gallery, self._state = self._open(), state
            yield self._gallery

    def _open(self) -> Gallery:
        gallery = open_gallery(self._folder)
        gallery.check_model(self._model.digest, self._model.path)
        return gallery

    def _stamp(self) -> tuple[int, int, int] | None:
        """Returns what changes whenever the gallery does: its index is replaced by a new file."""
        try:
            status = (self._folder / INDEX).stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size


def _check_rate(calibration: Calibration | None, far: float | None) -> None:
    if far is None or (calibration is not None and far in calibration.thresholds):
        return
    if calibration is None:
        raise RequestError(422, f"far: the gallery has no thresholds, so none for {far:g}; leave it out")
    there = ", ".join(f"{rate:g}" for rate in calibration.thresholds)
    raise RequestError(422, f"far: the gallery has no threshold for {far:g}; it has them for {there}")


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    """Logs an error of the gallery, which names a folder here, and tells the client only that there is one.

    Raises:
        RequestError: in its place.
    """
    try:
        yield
    except RequestError:
        raise
    except UserError as error:
        logging.error("%s", error)
        raise RequestError(500, "the gallery cannot be used now; the service's log says why") from None
