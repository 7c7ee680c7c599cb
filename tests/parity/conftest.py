"""Compiler options of the parity tests.

float32 and bfloat16, which users run, have the users' optimisations. float64, which shows that the arithmetic
is the same, has the users' XLA passes over the graph, and only the machine code is compiled cheaply.
"""

import jax
import jax_side
import pytest
from xla_flags import cpu_options

USERS = cpu_options(fusion_emitters=True, split_count=32)


@pytest.fixture(autouse=True, scope="module")
def optimised():
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", False)
    with pytest.MonkeyPatch.context() as patch:
        for dtype, options in {"float32": USERS, "bfloat16": USERS, "float64": jax_side.CHEAP}.items():
            patch.setitem(jax_side.OPTIONS, dtype, options)
        yield
    jax.config.update("jax_disable_most_optimizations", before)
