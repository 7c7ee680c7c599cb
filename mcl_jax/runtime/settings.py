"""Settings of the process: log, compilation cache, memory, and compiler options for this machine."""

import ctypes
import functools
import importlib.util
import logging as std_logging
import os
import platform
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags, logging

from mcl_jax.utils.files import user_cache

# XLA's default convolutions on CPU run at half the speed of these.
_CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}


def show_own_log() -> None:
    """Logs to stderr: all messages of this package, and other libraries' warnings and errors."""
    package = str(Path(__file__).parents[1])

    def of_interest(record: std_logging.LogRecord) -> bool:
        # Both print pages about a damaged checkpoint; mcl_jax.workdir.checkpoints says it in one line.
        if "/orbax/" in record.pathname or record.name == "asyncio":
            return False
        return record.levelno >= std_logging.WARNING or record.pathname.startswith(package)

    if not flags.FLAGS.is_parsed():  # argparse has read the command line, so absl has no flags to wait for
        flags.FLAGS.mark_as_parsed()
    logging.set_verbosity(logging.INFO)
    for other in [*std_logging.root.handlers]:
        if type(other) is std_logging.StreamHandler:  # made by a library that logged during its import
            std_logging.root.removeHandler(other)
    logging.use_absl_handler()
    handler = logging.get_absl_handler()
    handler.addFilter(of_interest)
    handler.setFormatter(std_logging.Formatter("%(asctime)s %(levelname).1s %(message)s", "%H:%M:%S"))
    sys.unraisablehook = _without_orbax
    # A failed save of Orbax leaves coroutines unstarted; this package has none of its own.
    warnings.filterwarnings("ignore", r"coroutine '.*' was never awaited", RuntimeWarning)


def _without_orbax(unraisable: "sys.UnraisableHookArgs") -> None:
    """Hides errors of Orbax's threads that are still reading a damaged checkpoint."""
    frames = traceback.extract_tb(unraisable.exc_traceback)
    of_orbax = any("/orbax/" in frame.filename for frame in frames)
    if not of_orbax and str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def enable_compilation_cache() -> None:
    """Keeps compiled programs between runs, in the user's cache unless JAX_COMPILATION_CACHE_DIR is set."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(user_cache() / "xla"))


# M_ARENA_MAX, M_MMAP_MAX and M_TRIM_THRESHOLD of glibc's malloc.h; -1 is the largest threshold.
_KEEPING = ((-8, 1), (-4, 0), (-1, -1))


def keep_memory() -> bool:
    """Keeps the memory of a step for the next one, on a CPU; returns whether it does.

    Otherwise glibc returns it after every step, and the system has to clear each page again. Keeping it takes
    about half as much memory again. MCL_JAX_KEEP_MEMORY=0 turns this off, and so does any of glibc's own
    settings (MALLOC_ARENA_MAX and others). Other C libraries have no such settings. Call it before JAX starts
    its threads, because a thread keeps the arena it started with. That is too early to ask JAX for a GPU, so
    this checks whether JAX could find one.
    """
    chosen = os.environ.get("MCL_JAX_KEEP_MEMORY") == "0" or any(n.startswith("MALLOC_") for n in os.environ)
    if chosen or platform.libc_ver()[0] != "glibc" or not _cpu_alone():
        return False
    return all(ctypes.CDLL(None).mallopt(name, value) for name, value in _KEEPING)


def _cpu_alone() -> bool:
    asked = jax.config.jax_platforms  # type: ignore[attr-defined]  # made at run time, so mypy cannot see it
    if asked:
        return bool(asked == "cpu")
    return not any(importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu"))


# By default the CPU's compiler removes barriers; then remat saves nothing, and fusions cross the barriers.
_TRAINING_OPTIONS = {"xla_disable_hlo_passes": "cse_barrier_expander"}


def compiler_options(*, training: bool = False) -> dict[str, str]:
    """Returns the compiler options for `jax.jit`, or none if this jaxlib does not know them.

    Args:
        training: whether the program is a training step.
    """
    known = _known_options()
    return known | _TRAINING_OPTIONS if training and known else known


def testing_precision(asked: str) -> str:
    """Returns the type a model computes in when testing.

    Args:
        asked: the type, or "" for this machine's default: float32 on a CPU, float16 elsewhere. OpenGait
            tests in float16 too, and every GPU since the V100 has tensor cores for it. docs/gpus.md gives
            its effect on rank-1.
    """
    if asked:
        return asked
    return "float32" if jax.default_backend() == "cpu" else "float16"


def warn_of_missing_bfloat16(precision: str) -> None:
    """Warns if a run computes in bfloat16 on a GPU without units for it, that is, before Ampere."""
    capability = getattr(
        jax.local_devices()[0], "compute_capability", None
    )  # only GPUs have it, such as "8.0"
    if precision == "bfloat16" and capability is not None and float(capability) < 8:
        logging.warning(
            "this GPU (compute capability %s) has no bfloat16: XLA computes products in float32 instead, "
            "which is much slower; see docs/gpus.md",
            capability,
        )


def options_to_run_once() -> dict[str, Any]:
    """Returns options for `jax.jit` that compile faster, for a program that runs only once.

    On a CPU the program is optimised less. Initial parameters keep the same bits, in half the time.
    """
    return {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else {}


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
