"""Parity is shown with the optimisations that users have; the other tests compile without most of them."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def optimised():
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
