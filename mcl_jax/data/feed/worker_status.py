"""Status board: shared memory in which each worker notes the sequence it is reading."""

import dataclasses
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any, Protocol

import numpy as np

_NOTHING = -1
_NUMBER = np.dtype(np.int64)
_FIELDS = 8  # numbers in a worker's line of the board: a cache line, of which three are used
_STATES = {"T": "stopped", "t": "stopped", "D": "waiting for a disk", "Z": "dead", "R": "computing"}


class Note(Protocol):
    """Function that a loader calls with the number of the sequence it will read next."""

    def __call__(self, sequence: int, /) -> None:
        """Notes the number."""


def ignore_note(sequence: int) -> None:
    """Ignores a loader's notes."""


@dataclasses.dataclass(frozen=True)
class WorkerStatus:
    """Last note of a worker: its process, position and sequence; None if there is none."""

    process: int | None
    position: int | None
    sequence: int | None


class StatusBoard:
    """A line of notes for each worker, in shared memory; picklable, as its name."""

    def __init__(self, workers: int):
        """Makes the memory, without notes."""
        self._memory = shared_memory.SharedMemory(create=True, size=workers * _FIELDS * _NUMBER.itemsize)
        self._workers = workers
        self._line: np.ndarray | None = None  # this process's view of the memory
        self._lines()[:] = _NOTHING

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_line": None}

    def begin(self, worker: int, process: int) -> None:
        """Notes that a worker has started (its modules are imported), and its process."""
        self._lines()[worker, 0] = process

    def note(self, worker: int, position: int, sequence: int) -> None:
        """Notes the sequence that a worker will read next, for the result of a position."""
        self._lines()[worker, 1:3] = position, sequence

    def rest(self, worker: int) -> None:
        """Notes that a worker has finished its result."""
        self._lines()[worker, 1:3] = _NOTHING

    def read(self, worker: int) -> WorkerStatus:
        """Returns the last note of a worker."""
        noted = (None if value == _NOTHING else int(value) for value in self._lines()[worker, :3])
        return WorkerStatus(*noted)

    def free(self) -> None:
        """Frees the memory."""
        self._line = None  # the memory cannot be closed while an array uses it
        self._memory.close()
        self._memory.unlink()

    def _lines(self) -> np.ndarray:
        if self._line is None:
            self._line = np.ndarray((self._workers, _FIELDS), _NUMBER, self._memory.buf)
        return self._line


class ThreadStatusBoard(StatusBoard):
    """Board with one line for a thread of this process; not shared memory, because the thread may hang."""

    def __init__(self) -> None:
        self._line = np.full((1, _FIELDS), _NOTHING, _NUMBER)

    def free(self) -> None:
        """Does nothing."""


def state_of(process: int | str) -> str:
    """Returns the state of a process in a word or two, such as "stopped"; "" if it is unknown.

    Args:
        process: number of the process, or `self/task/N` for thread N of this process.
    """
    try:
        content = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return _STATES.get(content.rpartition(")")[2].split()[0], "waiting")
