"""Batches across requests: one thread embeds all walks that wait, as many at a time as a batch holds."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from mcl_jax.errors import DataError, UserError
from mcl_jax.serving.limits import Limits, RequestError

Embed = Callable[[list[np.ndarray]], np.ndarray]
"""Gives the embeddings float32 [n, parts, channels] of walks uint8 [s, 64, 64 or 44]."""

_GAP = 1  # empty slot between two walks of a row


@dataclass
class _Waiting:
    """A walk that waits for its embedding."""

    frames: np.ndarray
    embedding: "Future[np.ndarray]" = field(default_factory=Future)


class Batcher:
    """Embeds walks of any number of requests in one thread; the first that came are the first embedded.

    It waits for nobody: a batch takes what has come while the one before it was computed.
    """

    def __init__(self, embed: Embed, limits: Limits, note: Callable[[int], None] = lambda walks: None):
        """Starts the thread.

        Args:
            embed: called by that thread alone.
            limits: how many walks may wait, and how many frames a batch has.
            note: hears the number of walks of each batch.
        """
        self._embed, self._limits, self._note = embed, limits, note
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="embedding", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """Returns how many walks wait."""
        return len(self._waiting)

    def submit(self, walks: Sequence[np.ndarray]) -> "list[Future[np.ndarray]]":
        """Returns the embeddings [parts, channels] to come of all walks of a request.

        Raises:
            RequestError: if too many walks wait, or the service is ending.
        """
        new = [_Waiting(frames) for frames in walks]
        with self._changed:
            if self._closed:
                raise RequestError(503, "the service is ending; try again elsewhere")
            if len(self._waiting) + len(new) > self._limits.waiting:
                raise RequestError(503, "too many walks wait; try again in a while")
            self._waiting.extend(new)
            self._changed.notify()
        return [waiting.embedding for waiting in new]

    def close(self) -> None:
        """Embeds what still waits, and ends the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next_batch():
            # A client that has gone needs no answer.
            wanted = [waiting for waiting in batch if waiting.embedding.set_running_or_notify_cancel()]
            if wanted:
                self._note(len(wanted))
                self._embed_batch(wanted)

    def _next_batch(self) -> list[_Waiting]:
        """Returns the walks of a batch, waiting for the first of them; none once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            batch: list[_Waiting] = []
            room = self._limits.batch_frames
            while self._waiting and (not batch or len(self._waiting[0].frames) + _GAP <= room):
                batch.append(self._waiting.popleft())
                room -= len(batch[-1].frames) + _GAP
            return batch

    def _embed_batch(self, batch: list[_Waiting]) -> None:
        try:
            embeddings = self._embed([waiting.frames for waiting in batch])
            if not np.isfinite(embeddings).all():
                raise DataError("the embedding is not finite; try float32, or another model")
        except Exception as error:
            if len(batch) > 1 and isinstance(error, UserError):
                # One walk that cannot be embedded must not spoil the others' answers.
                for waiting in batch:
                    self._embed_batch([waiting])
                return
            for waiting in batch:
                waiting.embedding.set_exception(error)
            return
        for waiting, embedding in zip(batch, embeddings, strict=True):
            waiting.embedding.set_result(embedding)
