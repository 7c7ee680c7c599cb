"""Names the limit of the machine behind an error: open files, threads, memory or disk."""

import errno
import re
from typing import NamedTuple

_WANTED = re.compile(r"allocat(?:e|ing) (\d+(?:\.\d+)?)( bytes|[KMGT]iB)")
"""XLA's words for the memory that a step asks a device for: all between its input and output at once."""


class ResourceLimit(NamedTuple):
    """A limit that was reached, and the remedy."""

    what: str
    remedy: str


def resource_limit(error: BaseException) -> ResourceLimit | None:
    """Returns the limit behind an error, or None for an error of another kind.

    Args:
        error: raised by Python, or by a C++ library with the system's words in its message.
    """
    limit = next((limit for is_it, limit in _LIMITS if is_it(error)), None)
    wanted = _WANTED.search(str(error))
    if limit is None or wanted is None or not _no_device_memory(error):
        return limit
    return limit._replace(what=f"{limit.what}: {_readable(wanted)} more were asked for at once")


def _readable(wanted: re.Match[str]) -> str:
    """Returns an amount of memory as XLA gives it, in bytes or with a unit of its own."""
    number, unit = wanted.groups()
    return f"{float(number) / 2**30:.3g} GiB" if unit == " bytes" else f"{number} {unit}"


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
    (_no_files, ResourceLimit("this process may open no more files", "raise the limit (ulimit -n)")),
    (_no_disk, ResourceLimit("the disk is full", "make room")),
    (
        _no_device_memory,
        ResourceLimit(
            "the device has not enough memory",
            "lower train.batch (eval.rows or eval.slots in a test), or set train.remat=True; --describe says "
            "how much a step takes",
        ),
    ),
    (_no_memory, ResourceLimit("there is not enough memory", "free some, or lower what takes it")),
    (
        _no_thread,
        ResourceLimit(
            "no more threads or processes may be started", "end some, or raise the limit (ulimit -u)"
        ),
    ),
)
