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


# Whole runs that are killed, attacked or spread over hosts and devices, and compilers, and of tests that go
# through many models or cases the costly ones: the second stage of CI (`make test-all`).
SLOW = (
    "attack",
    "devices",
    "faults",
    "hostile",
    "ops/test_cpu_library.py",
    "runtime/test_hosts.py",
    "test_compilations.py",
    "test_tutorial.py",
    "convert/test_importer.py::test_round_trip_is_bit_equal_and_loads_strictly[deepgaitv2",
    "convert/test_importer.py::test_round_trip_is_bit_equal_and_loads_strictly[gaitgl_",
    "convert/test_importer.py::test_round_trip_is_bit_equal_and_loads_strictly[swingait]",
    "convert/test_importer.py::test_training_starts_from_a_pretrained_backbone",
    "convert/test_optimizer.py::test_the_next_update_is_pytorchs[deepgaitv2",
    "convert/test_optimizer.py::test_the_next_update_is_pytorchs[gaitbase_sizes",
    "convert/test_optimizer.py::test_the_next_update_is_pytorchs[gaitgl_",
    "convert/test_optimizer.py::test_the_next_update_is_pytorchs[swingait",
    "convert/test_runs.py::test_with_optimizer_training_continues_at_the_same_step",
    "data/test_array_record.py::test_records_can_be_made_again_from_the_tree_of_the_same_frames",
    "data/test_loaders.py::test_a_bad_sequence_is_one_line_from_any_worker[1]",
    "data/test_loaders.py::test_batches_do_not_depend_on_workers_or_start",
    "data/test_loaders.py::test_workers_end_with_a_process_that_was_killed",
    "data/test_watchdog.py::test_a_script_without_a_main_guard_gets_an_explanation",
    "data/test_watchdog.py::test_a_stopped_worker_is_named_and_replaced_and_no_result_differs",
    "evaluation/test_colours.py::test_long_names_of_many_conditions_have_room",
    "evaluation/test_report.py::test_subjects_and_views_of_any_name_have_a_report[views]",
    "evaluation/test_report.py::test_the_sheet_is_deterministic_and_excludes_the_probes_view",
    "evaluation/test_report_page.py::test_a_person_clicks_through_the_page",
    "explanation/test_explain.py::test_the_parts_that_change_are_those_at_the_height_of_the_bag[cos]",
    "exporting/test_export.py::test_models_with_windows_of_three_frames_are_exported_for_any_number",
    "footage/test_extraction.py::test_two_who_cross_are_found_and_kept_apart[mog2]",
    "loggers/test_loggers.py::test_a_run_that_is_stopped_and_goes_on_is_logged_whole_whatever_fails",
    "losses/test_losses.py::test_any_multiset_of_labels_agrees_with_the_loop",
    "models/test_models.py::test_packed_equals_alone_on_any_devices[deepgaitv2",
    "models/test_models.py::test_packed_equals_alone_on_any_devices[gaitbase]",
    "models/test_models.py::test_packed_equals_alone_on_any_devices[gaitpocket]",
    "models/test_models.py::test_packed_equals_alone_on_any_devices[swingait]",
    "ops/test_convolution.py::test_devices_share_the_images",
    "reproduction/test_reproduction.py::TestParts::test_an_interrupted_embedding_continues",
    "serving/test_serving.py::test_a_signal_lets_requests_in_flight_finish_and_the_program_leaves_with_0",
    "test_api.py::test_the_bnneck_feature_of_deepgaitv2",
    "test_config.py::test_full_size[gait3d_swingait]",
    "test_config.py::test_full_size[sustech1k_swingait]",
    "test_config.py::test_one_step_at_toy_width",
    "test_faults.py::test_a_signal_saves_and_leaves_with_a_true_line",
    "test_faults.py::test_a_state_that_is_not_finite_is_not_saved",
    "test_main.py::test_unreadable_test_sequences_are_left_out_and_counted",
    "workdir/test_checkpoints.py::test_saves_leave_no_descriptors_and_threads_behind",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.removeprefix("tests/").startswith(SLOW):
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
