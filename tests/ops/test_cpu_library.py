"""Compiling the C++ convolutions: once for each CPU, with XLA as fallback."""

import functools
import hashlib
import os
import platform
import queue
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from mcl_jax.ops.cpu import kernels, library

needs_compiler = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    return tmp_path / "mcl_jax" / "native"


def path_of(cache):
    """Returns where a library lies once it has been compiled."""
    (path,) = cache.glob(f"convolution-{library._key()}-*.so")
    return path


def named(cache, content):
    """Writes a file as a library with the digest of its content."""
    version, digest = library._version(library._compiler()), hashlib.sha256(content).hexdigest()
    path = cache / f"convolution-{library._key()}-{version}-{digest}.so"
    cache.mkdir(parents=True, exist_ok=True)
    cache.chmod(0o700)
    path.write_bytes(content)
    path.chmod(0o644)
    return path


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The content of a library."""
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp("compiled")
    library._compiled(folder / "native")
    (path,) = (folder / "native").glob("*.so")
    return path.read_bytes()


@pytest.fixture
def copying(compiled, monkeypatch):
    """Instead of compiling, for ten seconds each time, a copy; how often is counted."""
    made = []

    def copy(command, **kwargs):
        made.append(command)
        Path(command[-1]).write_bytes(compiled)
        return subprocess.CompletedProcess(command, 0, "", "")

    library._version(library._compiler())  # by the true one
    monkeypatch.setattr(library.subprocess, "run", copy)
    return made


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@needs_compiler
def test_it_is_compiled_once_and_kept(cache, monkeypatch):
    previous = os.umask(0o002)
    try:
        assert library.library.__wrapped__().MclConvolve
    finally:
        os.umask(previous)
    (file,) = cache.iterdir()
    assert file.stat().st_mode & 0o777 == 0o644
    monkeypatch.setattr(library, "_compiled", lambda folder: pytest.fail("compiled again"))
    assert library.library.__wrapped__().MclKernelGradient


@needs_compiler
def test_other_cpus_and_compilers_have_libraries_of_their_own(cache, monkeypatch):
    names = {library._key()}
    monkeypatch.setenv("CXX", "c++ -mno-avx512f")
    names.add(library._key())
    monkeypatch.setattr(library, "_cpu", lambda: "another")
    names.add(library._key())
    assert len(names) == 3


@needs_compiler
def test_libraries_that_others_can_write_are_not_loaded(cache, compiled, copying, caplog):
    path = named(cache, compiled)
    path.chmod(0o666)
    assert library.library.__wrapped__().MclConvolve
    assert len(copying) == 1  # compiled anew
    (message,) = warnings_of(caplog)
    assert message.startswith(f"{path}: not used: it is a link, or other users can write it")
    assert path.stat().st_mode & 0o777 == 0o644


@needs_compiler
def test_a_link_is_not_followed(cache, compiled, copying, caplog, tmp_path):
    path = named(cache, compiled)
    path.rename(tmp_path / "elsewhere.so")
    path.symlink_to(tmp_path / "elsewhere.so")
    assert library.library.__wrapped__().MclConvolve
    assert len(copying) == 1
    assert not path.is_symlink()
    assert len(warnings_of(caplog)) == 1


@needs_compiler
@pytest.mark.parametrize("kind", ["open", "link", "under an open folder"])
def test_folders_that_others_can_write_are_not_used(cache, compiled, copying, caplog, tmp_path, kind):
    path = named(cache, compiled)
    if kind == "open":
        cache.chmod(0o777)
    elif kind == "link":
        cache.rename(tmp_path / "real")
        cache.symlink_to(tmp_path / "real")
    else:
        cache.parent.chmod(0o777)
    before = path.stat().st_mtime_ns
    assert library.library.__wrapped__().MclConvolve
    assert len(copying) == 1
    assert path.stat().st_mtime_ns == before
    not_used, not_kept = warnings_of(caplog)
    assert "not used" in not_used
    assert "not kept there" in not_kept


@needs_compiler
def test_damaged_libraries_are_compiled_again_and_never_loaded(cache, compiled, copying, caplog):
    """Loaded, each of these may end the process with SIGBUS, SIGSEGV or SIGILL."""
    rng = np.random.default_rng(0)
    damaged = [compiled[: int(size)] for size in rng.integers(0, len(compiled), 20)] + [b"", b"not a library"]
    for bit in rng.integers(0, 8 * len(compiled), 40).tolist():
        content = bytearray(compiled)
        content[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(content))
    path = named(cache, compiled)
    for number, content in enumerate(damaged, 1):
        path.unlink()  # its content is in use by this process
        path.write_bytes(content)
        path.chmod(0o644)
        caplog.clear()
        assert library.library.__wrapped__().MclConvolve
        assert len(copying) == number
        assert warnings_of(caplog) == [f"{path}: not used: it is damaged"]
        assert path_of(cache).read_bytes() == compiled


@needs_compiler
def test_a_library_without_our_functions_is_compiled_again(cache, copying, compiled, caplog, monkeypatch):
    path = named(cache, compiled)
    functions = library._FUNCTIONS
    monkeypatch.setattr(library, "_FUNCTIONS", (*functions, "MclLater"))
    assert library.library.__wrapped__() is None
    kept, made = warnings_of(caplog)
    assert kept == f"{path}: compiled again, because it cannot be loaded: {path}: has no MclLater"
    assert "using XLA's slower convolutions" in made
    assert "has no MclLater" in made


@needs_compiler
def test_another_version_of_the_compiler_compiles_anew(cache, compiled, copying, monkeypatch):
    named(cache, compiled)
    assert library.library.__wrapped__().MclConvolve
    assert not copying
    monkeypatch.setattr(library, "_version", lambda compiler: "another")
    assert library.library.__wrapped__().MclConvolve
    assert len(copying) == 1


@needs_compiler
def test_without_a_compiler_what_another_machine_has_compiled_is_used(cache, compiled, monkeypatch):
    named(cache, compiled)
    monkeypatch.setenv("PATH", str(cache))
    assert library.library.__wrapped__().MclConvolve


@needs_compiler
def test_without_a_place_to_keep_it_it_is_compiled_again(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert library.library.__wrapped__().MclConvolve
    (message,) = warnings_of(caplog)
    assert "compiled convolutions are not kept" in message


def test_without_a_compiler_convolutions_are_xlas(cache, monkeypatch, caplog):
    monkeypatch.setenv("PATH", str(cache))
    assert library.library.__wrapped__() is None
    (message,) = warnings_of(caplog)
    assert "there is no C++ compiler" in message


@pytest.mark.parametrize(("compiler", "said"), [("false", "false -std=c++17"), ('c++ "', "quotation")])
def test_a_compiler_that_fails_is_named(compiler, said, cache, monkeypatch, caplog):
    monkeypatch.setenv("CXX", compiler)
    assert library.library.__wrapped__() is None
    (message,) = warnings_of(caplog)
    assert said in message


@needs_compiler
def test_what_is_no_library_in_spite_of_its_digest_is_compiled_again(cache, copying, caplog):
    path = named(cache, b"not a library")
    assert library.library.__wrapped__().MclConvolve
    (message,) = warnings_of(caplog)
    assert message.startswith(f"{path}: compiled again")


def test_it_can_be_switched_off(cache, monkeypatch):
    monkeypatch.setenv(library.SWITCH, "0")
    assert library.library.__wrapped__() is None
    assert not cache.exists()


def test_preparing_happens_beside_other_work(monkeypatch):
    seen = queue.Queue()
    monkeypatch.setattr(kernels, "_register", lambda: seen.put(threading.current_thread()))
    monkeypatch.setattr(kernels, "_preparation", functools.cache(kernels._preparation.__wrapped__))
    kernels.prepare()
    assert seen.get(timeout=60) is not threading.current_thread()


PROGRAM = """
import os, sys

if len(sys.argv) > 2:
    os.sched_setaffinity(0, {int(sys.argv[2])})
import jax, jax.numpy as jnp, numpy as np
from mcl_jax.ops.convolution import convolve
from mcl_jax.ops.cpu.library import library

wanted = sys.argv[1]
assert (library() is not None) == (wanted == "ours"), wanted
rng = np.random.default_rng(0)
made = []
for kernel, stride in (((3, 3, 32, 96), 1), ((3, 3, 32, 96), 2), ((5, 5, 1, 32), 1)):
    x = jnp.asarray(rng.normal(size=(11, 12, 10, kernel[2])), jnp.float32)
    k = jnp.asarray(rng.normal(size=kernel), jnp.float32)
    y, vjp = jax.vjp(lambda x, k: convolve(x, k, stride), x, k)
    made += [np.asarray(array).ravel() for array in (y, *vjp(y))]
sys.stdout.buffer.write(np.concatenate([part / abs(part).max() for part in made]).tobytes())
"""


def in_a_process(wanted, *cpu, **environment):
    arguments = [sys.executable, "-W", "error", "-c", PROGRAM, wanted, *map(str, cpu)]
    done = subprocess.run(
        arguments,
        capture_output=True,
        env=os.environ | {"XLA_FLAGS": "", "JAX_ENABLE_COMPILATION_CACHE": "false"} | environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return np.frombuffer(done.stdout, np.float32)


@pytest.fixture(scope="module")
def by_xla():
    return in_a_process("xla", MCL_JAX_NATIVE="0")


@needs_compiler
@pytest.mark.skipif(platform.machine() != "x86_64", reason="options of x86 compilers")
@pytest.mark.parametrize("options", ["", "-mno-avx512f", "-mno-avx512f -mno-avx2 -mno-fma"])
def test_every_instruction_set_gives_the_same_up_to_rounding(options, by_xla, tmp_path):
    ours = in_a_process("ours", CXX=f"c++ {options}", XDG_CACHE_HOME=str(tmp_path))
    assert np.abs(ours - by_xla).max() < 2e-6


@needs_compiler
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a process cannot be bound to a core here")
def test_the_number_of_threads_changes_no_bit():
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) == 1:
        pytest.skip("there is one core")
    np.testing.assert_array_equal(in_a_process("ours"), in_a_process("ours", cpus[0]))
