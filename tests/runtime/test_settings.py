"""Settings of the process, each tested in a separate process."""

import os
import platform
import subprocess
import sys
import types

import jax
import pytest

from mcl_jax.runtime import settings

# How often the system hands out pages while a thread takes and returns 100 MB eight times.
PROGRAM = """
import ctypes, resource, threading
from mcl_jax.runtime.settings import keep_memory

kept = keep_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p

def take_and_return():
    memory = ctypes.c_void_p(libc.malloc(100_000_000))
    libc.memset(memory, 1, 100_000_000)
    libc.free(memory)

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def work():
    take_and_return()
    before = faults()
    for _ in range(8):
        take_and_return()
    print(kept, (faults() - before) // 8)

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""

# The bytes of initial parameters, compiled as a program that runs once and as any other.
INITIAL = """
import jax, numpy as np
from mcl_jax.models.registry import create_model
from mcl_jax.runtime.settings import options_to_run_once

sizes = {"channels": (8, 16, 16, 32), "embed_dim": 16, "num_classes": 4}
model = create_model("gaitbase", sizes, dtype="float32")
for options in (options_to_run_once(), None):
    print(b"".join(np.asarray(x).tobytes() for x in jax.tree.leaves(model.initial_arrays(3, options))).hex())
"""

# What a save of Orbax's may leave behind when it fails: a write whose loop ended before it began.
ABANDONED = """
import gc
from mcl_jax.runtime.settings import show_own_log

show_own_log()

async def write():
    pass

write()
gc.collect()
print("the end")
"""


def test_writes_that_a_failed_save_never_began_are_not_in_the_log():
    done = subprocess.run([sys.executable, "-c", ABANDONED], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("the end\n", "")


def kept_and_faults(**settings: str) -> tuple[str, int]:
    """Returns whether memory is kept, and how many page faults each later use of 100 MB has."""
    environment = {n: v for n, v in os.environ.items() if not n.startswith("MALLOC_")}
    environment |= {"JAX_PLATFORMS": "cpu", "MCL_JAX_KEEP_MEMORY": "1"} | settings
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    kept, faults = result.stdout.split()
    return kept, int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="memory is kept with glibc alone")
def test_memory_is_kept_for_the_next_step():
    kept, faults = kept_and_faults()
    assert kept == "True"
    assert faults < 10


@pytest.mark.parametrize(
    "settings",
    [{"MCL_JAX_KEEP_MEMORY": "0"}, {"MALLOC_TRIM_THRESHOLD_": "1000000"}, {"JAX_PLATFORMS": "cuda,cpu"}],
    ids=["switched off", "glibc told otherwise", "a GPU asked for"],
)
def test_memory_is_returned_where_that_is_asked_for(settings):
    kept, faults = kept_and_faults(**settings)
    assert kept == "False"
    if platform.libc_ver()[0] == "glibc":
        assert faults > 40  # of 2 MB each, if the system has such pages, or of 4 kB


@pytest.mark.slow
def test_initial_parameters_are_the_same_bits_whatever_their_program_is_compiled_for():
    environment = {
        n: v for n, v in os.environ.items() if n not in ("JAX_DISABLE_MOST_OPTIMIZATIONS", "XLA_FLAGS")
    }
    result = subprocess.run(
        [sys.executable, "-c", INITIAL], env=environment, capture_output=True, text=True, check=True
    )
    quickly, otherwise = result.stdout.split()
    assert len(quickly) > 100_000
    assert quickly == otherwise


def test_the_precision_of_tests_suits_the_machine(monkeypatch):
    assert settings.testing_precision("") == "float32"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert settings.testing_precision("") == "float16"
    assert settings.testing_precision("float32") == "float32"


def test_a_gpu_without_bfloat16_is_named(monkeypatch, caplog):
    def warned(capability, precision="bfloat16"):
        device = types.SimpleNamespace(**({} if capability is None else {"compute_capability": capability}))
        monkeypatch.setattr(jax, "local_devices", lambda: [device])
        caplog.clear()
        settings.warn_of_missing_bfloat16(precision)
        return "has no bfloat16" in caplog.text

    assert warned("7.0")
    assert not any((warned("8.0"), warned("12.0"), warned(None), warned("7.0", "float32")))
