"""Passes arrays from worker processes to the main process through reused shared memory.

New shared memory for each batch, as in Grain, costs more in page faults than making the batch.
"""

import dataclasses
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing import shared_memory
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import DTypeLike

from mcl_jax.errors import UserError

Arrays = dict[str, np.ndarray]


class Empty(Protocol):
    """Makes an uninitialised array, as `np.empty` does."""

    def __call__(self, shape: Sequence[int], dtype: DTypeLike, /) -> np.ndarray:
        """Returns an array of that shape and type."""


_ALIGNMENT = 64
_MAX_ARRAYS = 8
_WAIT_SECONDS = 0.003
_CLOSED = -1

_SHARED_MEMORY = Path("/dev/shm")


@dataclasses.dataclass(frozen=True)
class Parcel:
    """Location of a result's arrays: number of the result, and (name, offset, shape, type) of each array."""

    number: int
    arrays: tuple[tuple[str, int, tuple[int, ...], str], ...]


class RingClosedError(Exception):
    """Raised in a worker when its results are no longer needed."""


class Ring:
    """Slots of shared memory that results 0, 1, 2, … use in turn; picklable, as its name.

    Result n uses slot n modulo the number of slots. A worker waits until the slot's last result was taken.
    Results are taken in order, so the worker with the next result never waits.
    """

    def __init__(self, slots: int, nbytes: int):
        """Makes slots for up to 8 arrays of `nbytes` in total; fewer slots, at least 2, if memory is scarce.

        Half of the free memory is left to others: a test during training has a ring of its own.

        Raises:
            UserError: if the machine, or the container, has too little shared memory.
        """
        self._slot_bytes = _aligned(nbytes) + _MAX_ARRAYS * _ALIGNMENT
        free = shutil.disk_usage(_SHARED_MEMORY).free if _SHARED_MEMORY.is_dir() else sys.maxsize
        self._slots = max(2, min(slots, free // 2 // (self._slot_bytes + _ALIGNMENT)))
        size = self._slots * (self._slot_bytes + _ALIGNMENT)
        self._memory = shared_memory.SharedMemory(create=True, size=size)
        try:
            _reserve(self._memory)
        except OSError:
            self.free()
            raise UserError(
                f"data.workers: two batches need {size / 2**20:.1f} MB of shared memory, and "
                f"{_SHARED_MEMORY} has {free / 2**20:.1f} MB left; set data.workers to 0, or give the "
                "container more (docker run --shm-size)"
            ) from None
        self._taken(slice(None))[:] = 0

    def put(self, number: int, make: Callable[[Empty], Arrays]) -> Parcel:
        """Waits until the slot of a result is free, and makes the result there.

        Args:
            number: number of the result.
            make: makes the result; its argument is a function like `np.empty`, to be used for all arrays.

        Raises:
            RingClosedError: if the ring was closed.
            ValueError: if the result does not fit into the slot.
        """
        slot, lap = number % self._slots, number // self._slots
        while (taken := self._taken(slot)[0]) != lap:
            if taken == _CLOSED:
                raise RingClosedError
            time.sleep(_WAIT_SECONDS)
        start = end = self._slots * _ALIGNMENT + slot * self._slot_bytes
        offsets = {}

        def empty(shape: Sequence[int], dtype: DTypeLike) -> np.ndarray:
            nonlocal end
            offset, end = end, end + _aligned(math.prod(shape) * np.dtype(dtype).itemsize)
            if end > start + self._slot_bytes:
                raise ValueError(f"result {number} does not fit into {self._slot_bytes} bytes")
            array = np.ndarray(shape, dtype, self._memory.buf, offset)
            offsets[id(array)] = offset
            return array

        arrays = make(empty)
        places = ((name, offsets[id(a)], a.shape, a.dtype.str) for name, a in arrays.items())
        return Parcel(number, tuple(places))

    def take(self, parcel: Parcel) -> Arrays:
        """Returns a copy of a result and frees its slot."""
        arrays = {
            name: np.ndarray(shape, dtype, self._memory.buf, offset).copy()
            for name, offset, shape, dtype in parcel.arrays
        }
        self._taken(parcel.number % self._slots)[0] += 1
        return arrays

    def close(self) -> None:
        """Ends all waiting for a free slot with `RingClosedError`."""
        self._taken(slice(None))[:] = _CLOSED

    def free(self) -> None:
        """Frees the memory."""
        self._memory.close()
        self._memory.unlink()

    def _taken(self, slot: int | slice) -> np.ndarray:
        """Returns how often each slot was emptied, [slots, 1], or of one slot, [1]; _CLOSED after `close`.

        Each count has its own cache line.
        """
        counts = np.ndarray((self._slots, _ALIGNMENT // 8), np.int64, self._memory.buf)[:, :1]
        return counts[slot]


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT


def _reserve(memory: shared_memory.SharedMemory) -> None:
    """Reserves the memory now, because a later access to missing memory would kill the process."""
    path = _SHARED_MEMORY / memory.name
    if path.exists():  # only on Linux
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, memory.size)
