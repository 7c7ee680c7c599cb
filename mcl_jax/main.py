"""Trains or tests.

python -m mcl_jax.main --config configs/X.py [--workdir DIR] [--phase=train|test] [--config.a.b=…]
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
from absl import app, flags
from ml_collections import ConfigDict, config_flags

from mcl_jax.config import validate
from mcl_jax.errors import ConfigError, UserError
from mcl_jax.evaluation.embeddings import write_atomically
from mcl_jax.runtime import enable_compilation_cache, show_own_log
from mcl_jax.train import test, train

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file of the run.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; by default runs/NAME_OF_THE_CONFIG.")
_PHASE = flags.DEFINE_enum("phase", "train", ["train", "test"], "Train, then test; or test only.")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of host 0, to train on several hosts.")
_HOSTS = flags.DEFINE_integer("hosts", None, "How many hosts there are; with --coordinator.")
_HOST = flags.DEFINE_integer("host", None, "Index of this host, from 0; with --coordinator.")


def _parse_flags(argv: Sequence[str]) -> ConfigDict:
    """Parses the command line into a config.

    Raises:
        ConfigError: naming the flag or key that cannot work.
    """
    _check_config_file(argv)
    app.define_help_flags()
    try:
        flags.FLAGS(list(argv))
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        # A KeyError's text is the repr of its argument.
        text = error.args[0] if isinstance(error, KeyError) else error
        raise ConfigError("command line: " + " ".join(str(text).split())) from None
    if _CONFIG.value is None:
        raise ConfigError("--config is missing: --config configs/walkers_mcl.py, for instance")
    validate(_CONFIG.value)
    return _CONFIG.value


def _check_config_file(argv: Sequence[str]) -> None:
    # Found only while parsing, a missing file would be a page of ml_collections' own tracebacks.
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = argument.partition("=")
        if name in ("--config", "-config"):
            path = value if equals else following
            if not Path(path).is_file():
                raise ConfigError(f"--config: no file {path!r}")


def _workdir() -> Path:
    if _WORKDIR.value:
        return Path(_WORKDIR.value)
    return Path("runs") / Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem


def _run(argv: Sequence[str]) -> None:
    config = _parse_flags(argv)
    show_own_log()
    enable_compilation_cache()
    if _COORDINATOR.value:
        if os.environ.get("JAX_PLATFORMS") == "cpu":
            jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(_COORDINATOR.value, _HOSTS.value, _HOST.value)
    workdir = _workdir()
    {"train": train, "test": test}[_PHASE.value](config, workdir)
    if jax.process_index() == 0:
        write_atomically(
            workdir / "config.json", json.dumps(json.loads(config.to_json_best_effort()), indent=1).encode()
        )


def main(argv: Sequence[str] = tuple(sys.argv)) -> int:
    """Runs the command line and returns its exit code: 1 after a mistake the user can mend, in one line."""
    try:
        _run(argv)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command resumes from the last checkpoint", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
