"""Shared memory in which each worker notes the sequence it is reading."""

import dataclasses
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any, Protocol

import numpy as np

_NOTHING = -1
_NUMBER = np.dtype(np.int64)
_FIELDS = 8  # a cache line for each worker, of which three numbers are used
_STATES = {"T": "stopped", "t": "stopped", "D": "waiting for a disk", "Z": "dead", "R": "computing"}


class Note(Protocol):
    """Hears which sequence is read next, as its number among those of the loader."""

    def __call__(self, sequence: int, /) -> None:
        """Takes that number."""


def ignore_note(sequence: int) -> None:
    """Ignores a loader's notes."""


@dataclasses.dataclass(frozen=True)
class WorkerStatus:
    """The last note of a worker: its process, position and sequence; None for none."""

    process: int | None
    position: int | None
    sequence: int | None


class StatusBoard:
    """A line of notes for each worker; picklable, by name."""

    def __init__(self, workers: int):
        """Makes the memory, with nothing noted."""
        self._memory = shared_memory.SharedMemory(create=True, size=workers * _FIELDS * _NUMBER.itemsize)
        self._workers = workers
        self._line: np.ndarray | None = None  # of this process
        self._lines()[:] = _NOTHING

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_line": None}

    def begin(self, worker: int, process: int) -> None:
        """Notes that a worker is at work, its modules imported, and as which process."""
        self._lines()[worker, 0] = process

    def note(self, worker: int, position: int, sequence: int) -> None:
        """Notes the sequence that a worker reads next, for the result of a position."""
        self._lines()[worker, 1:3] = position, sequence

    def rest(self, worker: int) -> None:
        """Notes that a worker has made its result."""
        self._lines()[worker, 1:3] = _NOTHING

    def read(self, worker: int) -> WorkerStatus:
        """Returns the last note of a worker."""
        noted = (None if value == _NOTHING else int(value) for value in self._lines()[worker, :3])
        return WorkerStatus(*noted)

    def free(self) -> None:
        """Gives the memory back."""
        self._line = None  # else the memory could not be closed
        self._memory.close()
        self._memory.unlink()

    def _lines(self) -> np.ndarray:
        if self._line is None:
            self._line = np.ndarray((self._workers, _FIELDS), _NUMBER, self._memory.buf)
        return self._line


class ThreadStatusBoard(StatusBoard):
    """The line of a thread of this process, which may hang on to it for ever: no memory to be given back."""

    def __init__(self) -> None:
        self._line = np.full((1, _FIELDS), _NOTHING, _NUMBER)

    def free(self) -> None:
        """Does nothing."""


def state_of(process: int | str) -> str:
    """Returns the state of a process in a word or two, such as "stopped"; "" if it is unknown.

    Args:
        process: its number, or `self/task/N` for a thread of this one.
    """
    try:
        content = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return _STATES.get(content.rpartition(")")[2].split()[0], "waiting")
