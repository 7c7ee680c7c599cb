"""Retries operations that fail while a network disk is unavailable."""

import errno
import os
import time
from collections.abc import Callable
from typing import TypeVar

from absl import logging

from mcl_jax.errors import UserError

PAUSES = (0.5, 1.0, 3.0, 10.0)
"""Seconds between tries. All tries of one read end well before `data.timeout`."""

_T = TypeVar("_T")

_NAMES = """
    EIO EAGAIN EINTR EBUSY ESTALE ETIMEDOUT ENOTCONN ECONNRESET ECONNABORTED ECONNREFUSED EHOSTDOWN
    EHOSTUNREACH ENETDOWN ENETUNREACH ENETRESET ENOLINK EREMOTEIO ESHUTDOWN
"""
_PASSING = frozenset(getattr(errno, name) for name in _NAMES.split() if hasattr(errno, name))
# These count only after one of the errors above. A folder whose disk is away raises them, and so does a
# folder that is cleared while threads of a failed try, such as Orbax's, still write into it.
_AFTERWARDS = frozenset({errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.EEXIST, errno.ENOTEMPTY})
# C++ libraries raise their own errors, with the system's words in the message.
_WORDS = tuple(os.strerror(code) for code in sorted(_PASSING) if code not in (errno.EAGAIN, errno.EBUSY))


def is_passing(error: BaseException) -> bool:
    """Returns whether an error comes from a disk that comes and goes, so that another try may work."""
    if isinstance(error, OSError):
        return error.errno in _PASSING
    # A UserError was retried already.
    return not isinstance(error, UserError) and any(words in str(error) for words in _WORDS)


def retried(what: str, action: Callable[[], _T]) -> _T:
    """Runs an action and returns its result; retries after growing pauses if the disk fails.

    Args:
        what: the file or folder, for the log line about the retry.
        action: the action; running it again after a failure must be safe.

    Raises:
        Exception: the last error of the action; raised at once if another try cannot help.
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
                logging.warning("%s: %s; trying again for up to %g s", what, reason, sum(PAUSES))
        time.sleep(pause)
    return action()
