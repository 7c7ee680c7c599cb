"""How a command ends: what its exit code is, and what is said of a mistake."""

import signal
import sys
from collections.abc import Callable

from mcl_jax.errors import UserError
from mcl_jax.leaving import LeavingError
from mcl_jax.terminal import escaping_output, printable


@escaping_output()
def exit_code(work: Callable[[], None]) -> int:
    """Runs a command; returns its exit code: 1, and one line, after a mistake; `leaving` has others."""
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # see `quietly_while_importing`
        work()
    except UserError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 1
    except LeavingError as error:
        print(error, file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    return 0
