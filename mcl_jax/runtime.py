"""Settings of JAX itself: the compilation cache, and compiler options for this machine."""

import functools
import os
from pathlib import Path

import jax
import jax.numpy as jnp
from absl import logging

# XLA's default convolutions on CPU run at half the speed of these.
_CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}


def enable_compilation_cache() -> None:
    """Keeps compiled programs between runs, unless JAX_COMPILATION_CACHE_DIR names another place already."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(base) / "mcl_jax" / "xla"))


@functools.cache
def compiler_options() -> dict[str, str]:
    """Returns the options to pass to `jax.jit`, or none where this jaxlib does not know them."""
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(jnp.negative, compiler_options=_CPU_OPTIONS).lower(jnp.zeros(())).compile()
    except jax.errors.JaxRuntimeError:
        logging.info("this jaxlib lacks the faster CPU convolutions; training on the CPU will be slower")
        return {}
    return _CPU_OPTIONS
