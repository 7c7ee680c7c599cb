"""Compiles `convolution.cc` and its headers for this CPU, once, and keeps the library for later runs."""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import jax
import jaxlib
from absl import logging

from mcl_jax.errors import UserError
from mcl_jax.files import user_cache, write_atomically

SWITCH = "MCL_JAX_NATIVE"
"""Environment variable: 0 leaves convolutions to XLA."""

_SOURCES = Path(__file__).parent
# -march=native: the library is for one kind of CPU, which its name tells.
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-shared", "-fPIC", "-pthread")
_TIME_LIMIT = 300  # seconds; it takes five


@functools.cache
def library() -> ctypes.CDLL | None:
    """Returns the library, or None, and logs why, where it is not wanted or cannot be had."""
    if os.environ.get(SWITCH) == "0":
        logging.info("%s is 0: convolutions are XLA's", SWITCH)
        return None
    try:
        return _kept() or _compiled()
    except (OSError, subprocess.SubprocessError) as error:
        logging.warning(
            "convolutions are XLA's, which take two to three times as long, as ours cannot be compiled: %s",
            error,
        )
        return None


def _path() -> Path:
    return user_cache() / "native" / f"convolution-{_key()}.so"


def _kept() -> ctypes.CDLL | None:
    """Returns the library that was compiled before, if only this user, or root, can have put it there."""
    path = _path()
    if not path.exists():
        return None
    status = path.stat()
    if status.st_uid not in (0, os.getuid()) or status.st_mode & 0o022:
        logging.warning("%s: not used, as others than you may write it", path)
        return None
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:  # made where other libraries are, say, for a home that machines share
        logging.warning("%s: compiled again, as it cannot be loaded: %s", path, error)
        return None


def _compiled() -> ctypes.CDLL:
    """Compiles and loads the library, and keeps it if its folder can be written.

    Raises:
        OSError: there is no compiler, or what it made cannot be loaded.
        subprocess.SubprocessError: the compiler failed.
    """
    compiler = _compiler()
    logging.info("compiling convolutions for this CPU, once")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "convolution.so"
        command = (
            *compiler,
            *_FLAGS,
            "-isystem",
            jax.ffi.include_dir(),
            str(_SOURCES / "convolution.cc"),
            "-o",
            str(made),
        )
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIME_LIMIT, check=False)
        if done.returncode:
            raise subprocess.SubprocessError(f"{shlex.join(command)}\n{done.stderr.strip()}")
        loaded = ctypes.CDLL(str(made))
        try:
            write_atomically(_path(), made.read_bytes())
            _path().chmod(0o644)  # some let all of their group write what they write
        except UserError as error:
            logging.warning("the compiled convolutions are not kept: %s", error)
        return loaded


def _compiler() -> tuple[str, ...]:
    """Returns the C++ compiler, which CXX names, with options if need be.

    Raises:
        FileNotFoundError: there is none.
    """
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if name and os.name == "posix" and shutil.which(shlex.split(name)[0]):
            return tuple(shlex.split(name))
    raise FileNotFoundError("there is no C++ compiler (c++, g++, clang++ or what CXX names)")


def _key() -> str:
    """Returns what tells this library from others: what it is made of and which CPU for."""
    compiler = os.environ.get("CXX", "")
    told = (compiler, *_FLAGS, jaxlib.__version__, platform.system(), platform.machine(), _cpu())
    sources = sorted(path for path in _SOURCES.iterdir() if path.suffix in (".cc", ".h"))
    content = b"\0".join(path.read_bytes() for path in sources)
    return hashlib.sha256(content + "\0".join(told).encode()).hexdigest()[:16]


def _cpu() -> str:
    """Returns the CPU's model and what instructions it has, as far as the system says."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    told = ("vendor_id", "model", "model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.split(":")[0].strip() in told}))
