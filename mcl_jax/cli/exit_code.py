"""Exit codes of commands, and the line printed for an error."""

import contextlib
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator, Sequence

from mcl_jax.errors import UserError
from mcl_jax.runtime.preemption import PreemptedError
from mcl_jax.utils.resource_limits import resource_limit
from mcl_jax.utils.terminal import escaping_output, printable, shortened

READER_LEFT = 128 + signal.SIGPIPE if hasattr(signal, "SIGPIPE") else 1
"""Exit code where nobody reads on what is printed, as after `| head -1`."""


@escaping_output()
def exit_code(work: Callable[[], None]) -> int:
    """Runs a command; returns its exit code: 1, and one line, after a mistake; `preemption` has others."""
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # see `exit_quietly_on_interrupt`
        with until_reader_leaves():
            work()
    except UserError as error:
        _say(f"error: {printable(str(error))}")
        return 1
    except PreemptedError as error:
        _say(str(error))
        return error.code
    except KeyboardInterrupt:
        _say("interrupted; the same command goes on where it stopped")
        return 130
    except Exception as error:
        reason = _of_the_system(error)
        if not reason:
            raise
        _say(f"error: {reason}")
        return 1
    return 0


def require_text(argv: Sequence[str]) -> None:
    """Checks that all that was typed is text: libraries in C++ take nothing else, and OpenCV crashes.

    Raises:
        UserError: naming the first that is not UTF-8.
    """
    for argument in argv:
        if not argument.isascii() and any("\ud800" <= letter <= "\udfff" for letter in argument):
            raise UserError(f"{argument!a}: is not UTF-8; rename the file, or type it anew")


@contextlib.contextmanager
def until_reader_leaves() -> Iterator[None]:
    """Around all that a program prints.

    Raises:
        SystemExit: with `READER_LEFT`, if nobody reads on what is printed.
    """
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        if not _reader_left():
            raise
        # What is still in the buffer would raise once more when Python ends.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(READER_LEFT) from None


def _reader_left() -> bool:
    """Returns whether a broken pipe was that of stdout, and not one to another process."""
    if not hasattr(select, "poll"):
        return True
    with contextlib.suppress(OSError, ValueError, AttributeError):
        waiting = select.poll()
        waiting.register(sys.stdout.fileno(), 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in waiting.poll(0))
    return False


def _of_the_system(error: Exception) -> str:
    """Returns a line about an error of the machine or of the input, '' for any other.

    Where a file or key can be checked, the check says more; this is for what none foresaw.
    """
    if isinstance(error, OSError) and error.strerror:
        named = f"{os.fsdecode(error.filename)!r}: " if isinstance(error.filename, str | bytes) else ""
        return named + ("; ".join(resource_limit(error) or ()) or error.strerror)
    if ran_out := resource_limit(error):
        return "; ".join(ran_out)
    if isinstance(error, UnicodeError):
        return f"a name or text that is no valid Unicode: {error}"
    if isinstance(error, OverflowError):
        return f"a number is too large: {error}"
    return ""


def _say(line: str) -> None:
    """Prints one line to stderr."""
    print(shortened(" ".join(line.split("\n"))), file=sys.stderr)
