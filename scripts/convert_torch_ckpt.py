"""Imports a PyTorch checkpoint of OpenGait as the folder of a run, or exports a run back.

python scripts/convert_torch_ckpt.py --config configs/X.py --ckpt F.pt --out DIR [--with-optimizer]
python scripts/convert_torch_ckpt.py --to-torch --ckpt DIR --out F.pt
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags, logging
from ml_collections import config_flags

from mcl_jax.command_line import exit_code, parse_flags
from mcl_jax.config import validate
from mcl_jax.convert.runs import export_run, import_run
from mcl_jax.errors import ConfigError

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file of the model.", lock_config=True)
_CKPT = flags.DEFINE_string("ckpt", None, "What to convert: a PyTorch file; with --to-torch, a run's folder.")
_OUT = flags.DEFINE_string("out", None, "Where to write: a new folder; with --to-torch, a file.")
_WITH_OPTIMIZER = flags.DEFINE_bool(
    "with-optimizer", False, "Import momentum, schedule and iteration too, to go on training at that step."
)
_TO_TORCH = flags.DEFINE_bool("to-torch", False, "Export instead.")


def run(argv: Sequence[str]) -> None:
    """Converts as the flags say.

    Raises:
        UserError: for anything the user can mend.
    """
    parse_flags(argv)
    logging.set_verbosity(logging.WARNING)
    if not _CKPT.value or not _OUT.value:
        raise ConfigError("--ckpt and --out are needed: what to convert, and where to write it")
    source, out = Path(_CKPT.value), Path(_OUT.value)
    if _TO_TORCH.value:
        done = export_run(source, out)
    elif _CONFIG.value is None:
        raise ConfigError("--config is missing: the config of the model that the file holds")
    else:
        validate(_CONFIG.value)
        done = import_run(_CONFIG.value, source, out, with_optimizer=_WITH_OPTIMIZER.value)
    for key, value in done.items():
        print(f"{key:<10} {value}")


if __name__ == "__main__":
    sys.exit(exit_code(lambda: run(sys.argv)))
