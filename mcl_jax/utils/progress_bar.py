"""Progress bars: a bar in a terminal, elsewhere a line every ten seconds."""

import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

EVERY = 10.0  # seconds between two progress lines


class ProgressBar:
    """Shows progress, rate and time left; outside a terminal also the peak memory."""

    def __init__(self, what: str, unit: str, total: int, done: int = 0, *, show: bool = True):
        """Starts the clock; the first line comes `EVERY` seconds later.

        Args:
            what: name of the work.
            unit: unit of the count.
            total: total count.
            done: count that was done before.
            show: whether to show anything.
        """
        terminal = sys.stderr.isatty()
        # tqdm is not used elsewhere: its lock is shared by processes, and one of them may be killed.
        bar = show and terminal
        self._bar = tqdm(total=total, initial=done, unit=unit, desc=what, dynamic_ncols=True) if bar else None
        self._lines = show and not terminal
        self._what, self._unit, self._total = what, unit, total
        self._first, self._done = done, done
        self._start = self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, more: int = 1) -> None:
        """Adds to the count and shows it; prints a line if the last one is old enough."""
        if self._bar is not None:
            self._bar.update(more)
        self._done += more
        now = time.monotonic()
        if not self._lines or now - self._last_line < EVERY:
            return
        self._last_line = now
        rate = (self._done - self._first) / (now - self._start)
        left = (self._total - self._done) / rate
        print(
            f"{self._what}: {self._done} of {self._total}, {rate:.3g} {self._unit}/s, about {left:.0f} s left"
            f"{_peak_memory()}",
            file=sys.stderr,
            flush=True,
        )

    def leave_out(self, seconds: float) -> None:
        """Takes time that has just passed out of the rate and of the time left, as that of a compilation."""
        if self._bar is not None:
            self._bar.unpause()
        self._start += seconds

    def say(self, line: str) -> None:
        """Prints a line of results, above the bar if there is one; it also counts as a progress line."""
        if self._bar is not None:
            self._bar.write(line, file=sys.stdout)
        else:
            print(line)
        sys.stdout.flush()
        self._last_line = time.monotonic()


def _peak_memory() -> str:
    try:
        import resource  # missing on Windows
    except ImportError:
        return ""
    unit = 1 if sys.platform == "darwin" else 1024
    return f", {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9:.1f} GB of memory at most"
