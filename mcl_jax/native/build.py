"""Compiles `convolution.cc` for this CPU, once, and keeps the library beside the compiled XLA programs."""

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

SWITCH = "MCL_JAX_NATIVE"
"""Environment variable: 0 leaves convolutions to XLA."""

_SOURCE = Path(__file__).with_name("convolution.cc")
# -march=native: the library is for one kind of CPU, which its name tells.
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-shared", "-fPIC", "-pthread")
_TIME_LIMIT = 300  # seconds; it takes five


@functools.cache
def library() -> ctypes.CDLL | None:
    """Returns the library, or None, and logs why, where it is not wanted or cannot be had."""
    if os.environ.get(SWITCH) == "0":
        logging.info("%s=0: convolutions are XLA's", SWITCH)
        return None
    try:
        return ctypes.CDLL(str(_compiled(cache_folder())))
    except (OSError, subprocess.SubprocessError) as error:
        logging.warning("convolutions are XLA's, which are slower, since ours cannot be compiled: %s", error)
        return None


def cache_folder() -> Path:
    """Returns the folder of what is compiled on this machine for later runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mcl_jax"


def _compiled(folder: Path) -> Path:
    """Returns the file of the library, compiled before or now.

    Raises:
        OSError: there is no compiler, or the folder cannot be written.
        subprocess.SubprocessError: the compiler failed.
    """
    path = folder / "native" / f"{_key()}.so"
    if not _is_own(path):
        compiler = _compiler()
        logging.info("compiling convolutions for this CPU, once")
        path.parent.mkdir(parents=True, exist_ok=True)
        # Another process may do the same now; whoever comes last puts an equal file in place of the first.
        with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
            new = Path(temporary) / path.name
            command = (*compiler, *_FLAGS, "-isystem", jax.ffi.include_dir(), str(_SOURCE), "-o", str(new))
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIME_LIMIT, check=False)
            if done.returncode:
                raise subprocess.SubprocessError(f"{shlex.join(command)}\n{done.stderr.strip()}")
            new.replace(path)
    return path


def _is_own(path: Path) -> bool:
    """Returns whether the file is there and nobody but this user, or the machine's owner, could have put it there."""
    if not path.exists():
        return False
    status = path.stat()
    return status.st_uid in (0, os.getuid()) and not status.st_mode & 0o022


def _compiler() -> tuple[str, ...]:
    """Returns the C++ compiler, which CXX names, with options if need be.

    Raises:
        FileNotFoundError: there is none.
    """
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if name and shutil.which(shlex.split(name)[0]):
            return tuple(shlex.split(name))
    raise FileNotFoundError("there is no C++ compiler (c++, g++, clang++ or what CXX names)")


def _key() -> str:
    """Returns a name for the library: what it is made of and which CPU for."""
    parts = (_SOURCE.read_bytes(), " ".join(_FLAGS), jaxlib.__version__, platform.machine(), _cpu())
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else part.encode())
        digest.update(b"\0")
    return f"convolution-{digest.hexdigest()[:16]}"


def _cpu() -> str:
    """Returns the CPU's model and what instructions it has, as far as the system says."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    told = ("vendor_id", "model", "model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.split(":")[0].strip() in told}))
