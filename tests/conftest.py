"""Fixtures that every test shares: CPU devices, checked signatures, and where the optional truth lies."""

import gc
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import jaxtyping
import pytest
from hypothesis import HealthCheck, settings
from xla_flags import as_flags, cpu_options

# Set before jax is imported anywhere: four devices, so that sharding is tested on any machine.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
# Most of the suite's time is compilation, often of the same toy programs, also in the processes tests start.
# XLA still optimises the graph; what is cheap here is the machine code. tests/parity has options of its own.
# With COMPILE_AS_USERS=1 programs are compiled as users compile them: `make test-all` has such a stage.
if os.environ.get("COMPILE_AS_USERS") != "1":
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    os.environ["XLA_FLAGS"] += as_flags(cpu_options(fusion_emitters=False, split_count=1))
# Where many tests share a process, each would add what it keeps.
os.environ["MCL_JAX_KEEP_MEMORY"] = "0"
# Each of pytest's processes has a core: PyTorch's threads of all would wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
COMPILED = Path(__file__).resolve().parents[1] / ".pytest_cache" / "xla"
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(COMPILED)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"

jaxtyping.install_import_hook(["mcl_jax.losses", "mcl_jax.models", "mcl_jax.evaluation"], "beartype.beartype")

# A busy machine is no failure.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

SHARED = Path(__file__).resolve().parents[2] / "shared"


# Whole runs that are killed, attacked or spread over hosts and devices, and compilers: the second stage of CI
# (`make test-all`).
SLOW = (
    "attack",
    "devices",
    "faults",
    "hostile",
    "ops/test_cpu_library.py",
    "runtime/test_hosts.py",
    "test_compilations.py",
    "test_tutorial.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).as_posix().startswith(SLOW):
            item.add_marker(pytest.mark.slow)


def _shared(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs the optional folder ../shared/{name}")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_convolutions() -> None:
    """Programs of the tests take the convolutions that those of a command take."""
    from mcl_jax.ops.cpu import kernels

    kernels.prepare()


@pytest.fixture(scope="module", autouse=True)
def _programs_of_a_module_end_with_it() -> Iterator[None]:
    """Thousands of compiled programs would take gigabytes, and slow down all that comes after them."""
    yield
    import jax

    jax.clear_caches()
    gc.collect()


@pytest.fixture(scope="session")
def shared_parity() -> Path:
    """Figures that the reference printed, where they are at hand."""
    return _shared("parity")


@pytest.fixture(scope="session")
def real_silhouettes() -> Path:
    """Eight real sequences, where they are at hand."""
    return _shared("real_silhouettes")


def _made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that all processes of a test run share: the first that asks makes it, the others wait."""
    from mcl_jax.utils.file_lock import locked

    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, made = root / name, root / f"{name}.made"
    with locked(root / f"{name}.lock", wait=True):
        if not made.exists():
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


@pytest.fixture(scope="session")
def people(tmp_path_factory) -> Path:
    """A tree of six people, three of them for testing, two views, one sequence of each condition."""
    from mcl_jax.walkers import write_walkers

    def make(folder: Path) -> None:
        write_walkers(
            folder / "walkers",
            subjects=6,
            test_subjects=3,
            views=("036", "090"),
            conditions=("nm-01", "nm-05", "bg-01", "cl-01"),
            frames=6,
            workers=1,
        )

    return _made_once(tmp_path_factory, "people", make) / "walkers"


@pytest.fixture(scope="session")
def toy_run(people, tmp_path_factory) -> Path:
    """A finished run of a tiny GaitBase, three steps long; each process has a copy."""
    from toy_runs import toy_overrides

    import mcl_jax

    made = _made_once(
        tmp_path_factory,
        "toy_run",
        lambda folder: mcl_jax.train("walkers_mcl", folder, overrides=toy_overrides(people)),
    )
    return Path(shutil.copytree(made, tmp_path_factory.mktemp("run") / "toy"))
