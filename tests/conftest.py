"""What every test shares: CPU devices, checked signatures, and where the optional truth lies."""

import os
from pathlib import Path

import jaxtyping
import pytest

# Set before jax is imported anywhere: four devices, so that sharding is tested on any machine.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
# Most of the suite's time is compilation, often of the same toy programs, also in the processes tests start.
COMPILED = Path(__file__).resolve().parents[1] / ".pytest_cache" / "xla"
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(COMPILED)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"

jaxtyping.install_import_hook(["mcl_jax.losses", "mcl_jax.models", "mcl_jax.evaluation"], "beartype.beartype")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def _shared(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs the optional folder ../shared/{name}")
    return folder


@pytest.fixture(scope="session")
def shared_parity() -> Path:
    """Figures that the reference printed, where they are at hand."""
    return _shared("parity")


@pytest.fixture(scope="session")
def real_silhouettes() -> Path:
    """Eight real sequences, where they are at hand."""
    return _shared("real_silhouettes")
