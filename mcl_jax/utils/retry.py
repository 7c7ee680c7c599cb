"""Retries operations that fail while a network disk is away."""

import errno
import os
import time
from collections.abc import Callable
from typing import TypeVar

from absl import logging

from mcl_jax.errors import UserError

PAUSES = (0.5, 1.0, 3.0, 10.0)
"""Seconds between the tries. All tries of one read fit well into `data.timeout`."""

_T = TypeVar("_T")

_NAMES = """
    EIO EAGAIN EINTR EBUSY ESTALE ETIMEDOUT ENOTCONN ECONNRESET ECONNABORTED ECONNREFUSED EHOSTDOWN
    EHOSTUNREACH ENETDOWN ENETUNREACH ENETRESET ENOLINK EREMOTEIO ESHUTDOWN
"""
_PASSING = frozenset(getattr(errno, name) for name in _NAMES.split() if hasattr(errno, name))
# Only after one of the above these are not the plain truth: what a folder says whose disk is away,
# and one that is cleared while threads of the failed try still write into it, as Orbax's may.
_AFTERWARDS = frozenset({errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.EEXIST, errno.ENOTEMPTY})
# C++ libraries raise errors of their own, with the system's words in them.
_WORDS = tuple(os.strerror(code) for code in sorted(_PASSING) if code not in (errno.EAGAIN, errno.EBUSY))


def is_passing(error: BaseException) -> bool:
    """Returns whether an error may be gone at the next try: of a disk that comes and goes."""
    if isinstance(error, OSError):
        return error.errno in _PASSING
    # A UserError was retried already.
    return not isinstance(error, UserError) and any(words in str(error) for words in _WORDS)


def retried(what: str, action: Callable[[], _T]) -> _T:
    """Runs an action, and retries it after growing pauses when the disk fails; returns its result.

    Args:
        what: the file or folder, for the one line that says that it is tried again.
        action: what to do; it leaves nothing half done, or does not mind.

    Raises:
        Exception: what the action raised the last time; at once, if trying again is no use.
    """
    for tried, pause in enumerate(PAUSES):
        try:
            return action()
        except Exception as error:
            aftermath = tried > 0 and isinstance(error, OSError) and error.errno in _AFTERWARDS
            if not (aftermath or is_passing(error)):
                raise
            if tried == 0:
                reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
                logging.warning("%s: %s; trying again, for %g s at most", what, reason, sum(PAUSES))
        time.sleep(pause)
    return action()
