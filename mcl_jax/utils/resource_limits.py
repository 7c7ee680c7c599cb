"""Which of the machine's limits an error met: open files, threads, memory or the disk, and the remedy."""

import errno
from typing import NamedTuple


class Exhausted(NamedTuple):
    """What ran out, and what to do about it."""

    what: str
    remedy: str


def exhausted(error: BaseException) -> Exhausted | None:
    """Returns what ran out, or None for an error of another kind.

    Args:
        error: of Python, or of a C++ library, which has the system's words in its message.
    """
    return next((limit for is_it, limit in _LIMITS if is_it(error)), None)


def _of_system(error: BaseException, *codes: int) -> bool:
    return isinstance(error, OSError) and error.errno in codes


def _says(error: BaseException, *words: str) -> bool:
    return not isinstance(error, OSError) and any(some in str(error) for some in words)


def _no_files(error: BaseException) -> bool:
    return _of_system(error, errno.EMFILE, errno.ENFILE) or _says(error, "Too many open files")


def _no_disk(error: BaseException) -> bool:
    return _of_system(error, errno.ENOSPC, errno.EDQUOT) or _says(error, "No space left", "quota exceeded")


def _no_thread(error: BaseException) -> bool:
    words = ("can't start new thread", "Resource temporarily unavailable")
    return _of_system(error, errno.EAGAIN) or (isinstance(error, RuntimeError) and _says(error, *words))


def _no_device_memory(error: BaseException) -> bool:
    words = ("RESOURCE_EXHAUSTED: Out of memory", "Out of memory while trying", "CUDA_ERROR_OUT_OF_MEMORY")
    return _says(error, *words)


def _no_memory(error: BaseException) -> bool:
    words = ("RESOURCE_EXHAUSTED", "Cannot allocate memory", "std::bad_alloc")
    return isinstance(error, MemoryError) or _of_system(error, errno.ENOMEM) or _says(error, *words)


_LIMITS = (
    (_no_files, Exhausted("this process may open no more files", "raise the limit (ulimit -n)")),
    (_no_disk, Exhausted("the disk is full", "make room")),
    (
        _no_device_memory,
        Exhausted(
            "the device has not enough memory",
            "lower train.batch (eval.rows or eval.slots in a test), or set train.remat=True; --describe says "
            "how much a step takes",
        ),
    ),
    (_no_memory, Exhausted("there is not enough memory", "free some, or lower what takes it")),
    (
        _no_thread,
        Exhausted("no more threads or processes may be started", "end some, or raise the limit (ulimit -u)"),
    ),
)
