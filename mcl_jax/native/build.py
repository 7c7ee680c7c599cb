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

from mcl_jax.files import user_cache

SWITCH = "MCL_JAX_NATIVE"
"""Environment variable: 0 leaves convolutions, and distances between embeddings, to XLA."""

_SOURCES = Path(__file__).parent
# -march=native: the library is for one kind of CPU, which its name tells. -fno-math-errno: roots in vectors.
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-shared", "-fPIC", "-pthread")
_TIME_LIMIT = 300  # seconds; it takes five


@functools.cache
def library() -> ctypes.CDLL | None:
    """Returns the library, or None, and logs why, where it is not wanted or cannot be had."""
    if os.environ.get(SWITCH) == "0":
        logging.info("%s is 0: convolutions are XLA's", SWITCH)
        return None
    try:
        path = user_cache() / "native" / f"convolution-{_key()}.so"
        return _kept(path) or _compiled(path)
    # ValueError: quotes in CXX that do not match. RuntimeError: there is no home.
    except (OSError, ValueError, RuntimeError, subprocess.SubprocessError) as error:
        logging.warning("convolutions are XLA's, which are slower, as ours cannot be compiled: %s", error)
        return None


def _kept(path: Path) -> ctypes.CDLL | None:
    """Returns the library that was compiled before, if only this user, or root, can have put it there."""
    try:
        if not path.exists():
            return None
        if not (_is_ours(path) and _is_ours(path.parent)):
            logging.warning("%s: not used, as others than you may write it or its folder", path)
            return None
        return ctypes.CDLL(str(path))
    except OSError as error:  # made where other libraries are, say, for a home that machines share
        logging.warning("%s: compiled again, as it cannot be loaded: %s", path, error)
        return None


def _is_ours(path: Path) -> bool:
    status = path.stat()
    return status.st_uid in (0, os.getuid()) and not status.st_mode & 0o022


def _compiled(path: Path) -> ctypes.CDLL:
    """Compiles the library, keeps it if that can be, and loads it.

    Raises:
        OSError: there is no compiler, or what it made cannot be loaded.
        subprocess.SubprocessError: the compiler failed.
    """
    command = (*_compiler(), *_FLAGS, "-isystem", jax.ffi.include_dir(), str(_SOURCES / "convolution.cc"))
    logging.info("compiling convolutions for this CPU, once")
    folder = _own_folder(path.parent)
    # A folder for each process: several may compile at once, and the last puts an equal file in place.
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as temporary:
        made = Path(temporary) / path.name
        done = subprocess.run(
            (*command, "-o", str(made)),
            capture_output=True,
            errors="replace",
            timeout=_TIME_LIMIT,
            check=False,
        )
        if done.returncode:
            raise subprocess.SubprocessError(f"{shlex.join(command)}\n{done.stderr.strip()}")
        if folder is None:
            return ctypes.CDLL(str(made))
        made.chmod(0o644)  # some let all of their group write what they write
        made.replace(path)
    return ctypes.CDLL(str(path))


def _own_folder(folder: Path) -> Path | None:
    """Returns the folder, made if need be, or None where nothing can be kept."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_ours(folder) and os.access(folder, os.W_OK):
            return folder
        logging.warning("%s: compiled convolutions are not kept there, as others may write it", folder)
    except OSError as error:
        logging.warning("compiled convolutions are not kept: %s", error)
    return None


def _compiler() -> tuple[str, ...]:
    """Returns the C++ compiler, which CXX names, with options if need be.

    Raises:
        FileNotFoundError: there is none.
    """
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        words = shlex.split(name)
        if words and os.name == "posix" and shutil.which(words[0]):
            return tuple(words)
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
