"""Runs a logger in a thread of its own, so that training neither waits for it nor ends with it."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable

from absl import logging

from mcl_jax.loggers.logger import Logger
from mcl_jax.utils.resource_limits import resource_limit
from mcl_jax.utils.terminal import printable, shortened

_MOST_WAITING = 10_000
"""Reports that a logger may be behind: more than any training makes in the minutes that a server is away."""

_Call = Callable[[Logger], None]


class BackgroundLogger:
    """A logger that is opened, called and closed in a thread of its own.

    When it raises, or falls too far behind, one warning says so, and it gets nothing more.
    """

    def __init__(self, name: str, open_logger: Callable[[], Logger]) -> None:
        """Starts to open it.

        Args:
            name: of the logger, for the warning.
            open_logger: makes it.
        """
        self._name = name
        self._calls: queue.Queue[_Call | None] = queue.Queue(_MOST_WAITING)
        self._lock = threading.Lock()
        self._done = False
        self._thread = threading.Thread(
            target=self._work, args=(open_logger,), name=f"logger {name}", daemon=True
        )
        self._thread.start()

    def hand(self, call: _Call) -> None:
        """Has the logger called, soon; nothing is done once it has failed or is closed."""
        if self._done:
            return
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            self._give_up(f"it is {_MOST_WAITING:,} reports behind")

    def begin_to_close(self, *, finished: bool) -> None:
        """Has the logger closed after all that was handed to it."""
        self.hand(lambda logger: logger.close(finished=finished))
        with contextlib.suppress(queue.Full):
            self._calls.put_nowait(None)

    def wait(self, until: float) -> None:
        """Waits for the end of its thread, up to a time of `time.monotonic`."""
        self._thread.join(max(0.0, until - time.monotonic()))
        if self._thread.is_alive():
            self._give_up("it has not taken everything in time")
        self._done = True

    def _work(self, open_logger: Callable[[], Logger]) -> None:
        # A library may raise anything, even SystemExit; nothing of it may reach the run.
        try:
            logger = open_logger()
        except BaseException as error:
            self._give_up(_reason(error))
            return
        try:
            while (call := self._calls.get()) is not None and not self._done:
                call(logger)
        except BaseException as error:
            self._give_up(_reason(error))
        if self._done:
            with contextlib.suppress(BaseException):
                logger.close(finished=False)

    def _give_up(self, reason: str) -> None:
        with self._lock:
            before, self._done = self._done, True
        if not before:
            logging.warning(
                "train.loggers: %s failed: %s; it gets nothing more, and the run goes on", self._name, reason
            )


def _reason(error: BaseException) -> str:
    limit = resource_limit(error)
    if limit is not None:
        return limit.what
    lines = printable(str(error)).strip().splitlines()
    return shortened(lines[0], 600) if lines else type(error).__name__
