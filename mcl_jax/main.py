"""Trains or tests.

python -m mcl_jax.main --config RECIPE [--workdir DIR] [--phase=train|test] [--config.a.b=…]

RECIPE is a file such as configs/grew_mcl.py, or the name of a recipe that comes with the package.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from mcl_jax.command_line import exit_code, parse_flags
from mcl_jax.config import validate
from mcl_jax.data.feed.clip_sheet import clip_sheet, encode_png
from mcl_jax.describe import describe
from mcl_jax.errors import ConfigError
from mcl_jax.evaluate import test
from mcl_jax.files import write_atomically
from mcl_jax.hosts import join, local_count, run_local
from mcl_jax.leaving import Leaving
from mcl_jax.runtime import enable_compilation_cache, show_own_log
from mcl_jax.training import open_data, train

_CONFIG = config_flags.DEFINE_config_file("config", None, "Recipe of the run.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; by default runs/NAME_OF_THE_CONFIG.")
_PHASE = flags.DEFINE_enum("phase", "train", ["train", "test"], "Train, then test; or test only.")
_SHOW_CLIPS = flags.DEFINE_string(
    "show_clips", None, "Draw the first training batch into this PNG, and stop."
)
_DESCRIBE = flags.DEFINE_bool(
    "describe", False, "Print the whole config, with the size, work and memory of its model, and stop."
)
_MAX_MINUTES = flags.DEFINE_float("max_minutes", None, "Save and leave after this time, with exit code 75.")
_ACCEPT_CHANGES = flags.DEFINE_bool(
    "accept_changes", False, "Go on with a run whose config was another, and record the change."
)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of host 0, to train on several hosts.")
_HOSTS = flags.DEFINE_string(
    "hosts",
    None,
    "How many hosts there are, with --coordinator and --host; or auto, to ask SLURM, Open MPI or the cloud; "
    "or local:N, to start N on this machine.",
)
_HOST = flags.DEFINE_integer("host", None, "Index of this host, from 0; with --coordinator.")


def _workdir() -> Path:
    if _WORKDIR.value:
        return Path(_WORKDIR.value)
    return Path("runs") / Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem


def run(argv: Sequence[str]) -> None:
    """Trains or tests as the flags say.

    Raises:
        UserError: for anything the user can mend.
    """
    parse_flags(argv)
    config = _CONFIG.value
    if config is None:
        raise ConfigError("--config is missing: --config configs/walkers_mcl.py, for instance")
    validate(config)
    show_own_log()
    enable_compilation_cache()
    if (count := local_count(_HOSTS.value)) is not None:
        sys.exit(run_local(argv, count))
    join(_HOSTS.value, _COORDINATOR.value, _HOST.value)
    if _DESCRIBE.value:
        print(describe(config))
        return
    if _SHOW_CLIPS.value:
        write_atomically(_SHOW_CLIPS.value, encode_png(clip_sheet(open_data(config).loader(0))))
        print(f"the first batch is drawn in {_SHOW_CLIPS.value}")
        return
    if _PHASE.value == "test":
        test(config, _workdir())
        return
    with Leaving(_MAX_MINUTES.value) as leaving:
        train(config, _workdir(), accept_changes=_ACCEPT_CHANGES.value, leaving=leaving)


if __name__ == "__main__":
    sys.exit(exit_code(lambda: run(sys.argv)))
