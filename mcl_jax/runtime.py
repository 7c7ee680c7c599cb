"""Settings of the process: its log, the compilation cache, and compiler options for this machine."""

import functools
import logging as std_logging
import os
import sys
import traceback
from pathlib import Path

import jax
import jax.numpy as jnp
from absl import flags, logging

from mcl_jax.files import user_cache

# XLA's default convolutions on CPU run at half the speed of these.
_CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}


def show_own_log() -> None:
    """Logs to stderr: our own messages, and other libraries' only from warnings on."""
    package = str(Path(__file__).parent)

    def of_interest(record: std_logging.LogRecord) -> bool:
        # Of a damaged checkpoint both give pages of traceback; mcl_jax.checkpoint says it in a line.
        if "/orbax/" in record.pathname or record.name == "asyncio":
            return False
        return record.levelno >= std_logging.WARNING or record.pathname.startswith(package)

    if not flags.FLAGS.is_parsed():  # argparse has read the command line: absl need not wait for its flags
        flags.FLAGS.mark_as_parsed()
    logging.set_verbosity(logging.INFO)
    logging.use_absl_handler()
    handler = logging.get_absl_handler()
    handler.addFilter(of_interest)
    handler.setFormatter(std_logging.Formatter("%(asctime)s %(levelname).1s %(message)s", "%H:%M:%S"))
    sys.unraisablehook = _without_orbax


def _without_orbax(unraisable: "sys.UnraisableHookArgs") -> None:
    """Leaves out what Orbax's threads print when they read on in a damaged checkpoint that was given up."""
    frames = traceback.extract_tb(unraisable.exc_traceback)
    of_orbax = any("/orbax/" in frame.filename for frame in frames)
    if not of_orbax and str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def enable_compilation_cache() -> None:
    """Keeps compiled programs between runs, unless JAX_COMPILATION_CACHE_DIR names another place already."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(user_cache() / "xla"))


# The CPU's compiler takes away barriers, and then keeps what is to be computed again, and fuses what is not.
_TRAINING_OPTIONS = {"xla_disable_hlo_passes": "cse_barrier_expander"}


def compiler_options(*, training: bool = False) -> dict[str, str]:
    """Returns the options to pass to `jax.jit`, or none where this jaxlib does not know them.

    Args:
        training: whether it is for a training step.
    """
    known = _known_options()
    return known | _TRAINING_OPTIONS if training and known else known


@functools.cache
def _known_options() -> dict[str, str]:
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(jnp.negative, compiler_options=_CPU_OPTIONS).lower(jnp.zeros(())).compile()
    except jax.errors.JaxRuntimeError:
        logging.info("this jaxlib lacks the faster CPU convolutions; training on the CPU will be slower")
        return {}
    return _CPU_OPTIONS
