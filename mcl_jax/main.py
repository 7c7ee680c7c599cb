"""Trains or tests.

python -m mcl_jax.main --config RECIPE [--workdir DIR] [--phase=train|test] [--config.a.b=…]

RECIPE is a file such as configs/grew_mcl.py, or the name of a recipe that comes with the package.
"""

if __name__ == "__main__":
    from mcl_jax.runtime.preemption import exit_quietly_on_interrupt

    exit_quietly_on_interrupt()

import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from mcl_jax.cli.exit_code import exit_code, require_text
from mcl_jax.cli.launch import RunOptions, flag_fields, launch
from mcl_jax.cli.overrides import parse_flags


def _define_flags() -> None:
    kinds: dict[type, Callable[..., Any]] = {
        str: flags.DEFINE_string,
        bool: flags.DEFINE_bool,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
    }
    for name, (kind, field) in flag_fields().items():
        default: Any = field.default
        meaning = field.metadata["help"]
        if "choices" in field.metadata:
            flags.DEFINE_enum(name, default, field.metadata["choices"], meaning)
        else:
            kinds[kind](name, default, meaning)


_define_flags()


def run(argv: Sequence[str]) -> None:
    """Trains or tests as the flags say.

    Raises:
        UserError: for anything the user can mend.
    """
    require_text(argv)
    config, name = parse_flags(argv, __doc__ or "")
    values: dict[str, Any] = {field: flags.FLAGS[field].value for field in flag_fields()}
    launch(config, name, RunOptions(**values))


if __name__ == "__main__":
    sys.exit(exit_code(lambda: run(sys.argv)))
