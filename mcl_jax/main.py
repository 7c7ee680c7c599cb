"""Trains or tests; the same as `mcl-jax train`.

python -m mcl_jax.main --config RECIPE [--workdir DIR] [--phase=train|test] [--config.a.b=…]

RECIPE is a file such as configs/grew_mcl.py, or the name of a recipe in the package.
"""

if __name__ == "__main__":
    from mcl_jax.runtime.preemption import exit_quietly_on_interrupt

    exit_quietly_on_interrupt()

import sys
from collections.abc import Sequence

from mcl_jax.cli.program import run_command


def main(argv: Sequence[str]) -> int:
    """Trains or tests as the flags say; returns the exit code.

    Args:
        argv: the flags, without the program.

    Raises:
        SystemExit: with code 0 after help, and 2 after flags that cannot be read.
    """
    return run_command("train", argv, prog="python -m mcl_jax.main", description=__doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
