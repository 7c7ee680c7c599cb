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
"""Exit code when the reader of the output has gone, as after `| head -1`."""


@escaping_output()
def exit_code(work: Callable[[], None]) -> int:
    """Runs a command and returns its exit code: 1 after an error, which is printed as one line."""
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
        _say("interrupted; run the same command again to continue")
        return 130
    except Exception as error:
        reason = _of_the_system(error)
        if not reason:
            raise
        _say(f"error: {reason}")
        return 1
    return 0


def require_text(argv: Sequence[str]) -> None:
    """Checks that all arguments are UTF-8: C++ libraries take nothing else, and OpenCV crashes.

    Raises:
        UserError: naming the first argument that is not UTF-8.
    """
    for argument in argv:
        if not argument.isascii() and any("\ud800" <= letter <= "\udfff" for letter in argument):
            raise UserError(f"{argument!a}: is not UTF-8; rename the file, or type it again")


@contextlib.contextmanager
def until_reader_leaves() -> Iterator[None]:
    """Ends the program without a traceback if the reader of its output leaves.

    Raises:
        SystemExit: with `READER_LEFT`, if the reader of the output has gone.
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
        # Text left in the buffer would raise again when Python exits.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(READER_LEFT) from None


def _reader_left() -> bool:
    """Returns whether the broken pipe is stdout, and not a pipe to another process."""
    if not hasattr(select, "poll"):
        return True
    with contextlib.suppress(OSError, ValueError, AttributeError):
        waiting = select.poll()
        waiting.register(sys.stdout.fileno(), 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in waiting.poll(0))
    return False


def _of_the_system(error: Exception) -> str:
    """Returns one line about an error of the machine or of the input; '' for any other error.

    Checks of files and keys say more. This is for errors that no check foresaw.
    """
    if isinstance(error, OSError) and error.strerror:
        named = f"{os.fsdecode(error.filename)!r}: " if isinstance(error.filename, str | bytes) else ""
        return named + ("; ".join(resource_limit(error) or ()) or error.strerror)
    if ran_out := resource_limit(error):
        return "; ".join(ran_out)
    if isinstance(error, UnicodeError):
        return f"a name or text is not valid Unicode: {error}"
    if isinstance(error, OverflowError):
        return f"a number is too large: {error}"
    return ""


def _say(line: str) -> None:
    """Prints one line to stderr."""
    print(shortened(" ".join(line.split("\n"))), file=sys.stderr)
