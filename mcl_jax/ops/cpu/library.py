"""Compiles the C++ library for this CPU, and keeps it for later runs."""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import jax
import jaxlib
from absl import logging

from mcl_jax.utils.files import user_cache

SWITCH = "MCL_JAX_NATIVE"
"""Environment variable: 0 leaves convolutions, and distances between embeddings, to XLA."""

_SOURCES = Path(__file__).parent
# -march=native: compiles for one kind of CPU, which is part of the name. -fno-math-errno: vectorised roots.
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-shared", "-fPIC", "-pthread")
_TIME_LIMIT = 300  # seconds; compiling takes about five
_FUNCTIONS = ("MclConvolve", "MclKernelGradient", "MclDistances")


@functools.cache
def library() -> ctypes.CDLL | None:
    """Returns the library; if it is switched off or cannot be built, logs why and returns None."""
    if os.environ.get(SWITCH) == "0":
        logging.info("%s is 0: using XLA's convolutions", SWITCH)
        return None
    try:
        folder = user_cache() / "native"
        return _kept(folder) or _compiled(folder)
    # ValueError: unbalanced quotes in CXX. RuntimeError: no home folder.
    except (OSError, ValueError, RuntimeError, subprocess.SubprocessError) as error:
        logging.warning(
            "using XLA's slower convolutions, because mcl_jax's own cannot be compiled: %s", error
        )
        return None


def _kept(folder: Path) -> ctypes.CDLL | None:
    """Returns a library compiled earlier, if it is undamaged and only this user or root could write it.

    The file name ends in the digest of the content, so name and content always belong together.
    """
    try:
        compiler = _version(_compiler())
    except (OSError, ValueError, subprocess.SubprocessError):
        compiler = "*"  # a library from another machine with the same home works too
    for path in sorted(folder.glob(f"convolution-{_key()}-{compiler}-*.so")):
        try:
            fault = _fault(path)
            if fault is None:
                return _load(path)
            logging.warning("%s: not used: %s", path, fault)
            if _is_own_folder(folder):  # otherwise it would be read again at each start
                path.unlink(missing_ok=True)
        except OSError as error:  # made against other libraries, say on a machine that shares this home
            logging.warning("%s: compiled again, because it cannot be loaded: %s", path, error)
    return None


def _fault(path: Path) -> str | None:
    """Returns why a library must not be loaded, or None if it may."""
    if not (_is_ours(path) and _is_own_folder(path.parent)):
        return "it is a link, or other users can write it or its folder"
    return None if path.stem.endswith(f"-{_digest(path)}") else "it is damaged"


def _load(path: Path) -> ctypes.CDLL:
    """Loads a library, which may run code in it.

    Raises:
        OSError: it cannot be loaded, or lacks a function.
    """
    loaded = ctypes.CDLL(str(path))
    missing = [name for name in _FUNCTIONS if not hasattr(loaded, name)]
    if missing:
        raise OSError(f"{path}: has no {', '.join(missing)}")
    return loaded


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_ours(path: Path) -> bool:
    """Whether a file or folder is not a link, is this user's or root's, and only they can write it."""
    status = path.lstat()
    plain = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
    return plain and status.st_uid in (0, os.getuid()) and not status.st_mode & 0o022


def _is_own_folder(folder: Path) -> bool:
    """Whether a folder is this user's, and nobody else can replace it or a folder above it."""
    above = {*folder.absolute().parents, *folder.resolve().parents}
    # In a sticky folder such as /tmp only the owner may rename what is in it.
    open_to_all = [path for path in above if path.stat().st_mode & 0o1002 == 0o0002]
    return _is_ours(folder) and not open_to_all


def _compiled(folder: Path) -> ctypes.CDLL:
    """Compiles the library, keeps it if possible, and loads it.

    Raises:
        OSError: there is no compiler, or its library cannot be loaded.
        subprocess.SubprocessError: the compiler failed.
    """
    compiler = _compiler()
    command = (*compiler, *_FLAGS, "-isystem", jax.ffi.include_dir(), str(_SOURCES / "convolution.cc"))
    logging.info("compiling convolutions for this CPU, once")
    prefix = f"convolution-{_key()}-{_version(compiler)}"
    place = _own_folder(folder)
    # Each process has its own folder: several may compile at once, and the last one's equal file stays.
    with tempfile.TemporaryDirectory(dir=place, ignore_cleanup_errors=True) as temporary:
        made = Path(temporary) / f"{prefix}.so"
        done = subprocess.run(
            (*command, "-o", str(made)),
            capture_output=True,
            errors="replace",
            timeout=_TIME_LIMIT,
            check=False,
        )
        if done.returncode:
            raise subprocess.SubprocessError(f"{shlex.join(command)}\n{done.stderr.strip()}")
        if place is None:
            return _load(made)
        made.chmod(0o644)  # some users' default lets their group write new files
        with made.open("rb") as file:
            os.fsync(file.fileno())  # so that a power cut cannot leave a file that does not match its name
        path = place / f"{prefix}-{_digest(made)}.so"
        made.replace(path)
    return _load(path)


def _own_folder(folder: Path) -> Path | None:
    """Returns the folder for libraries, made if needed; None if nothing can be kept."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_own_folder(folder) and os.access(folder, os.W_OK):
            return folder
        logging.warning(
            "%s: compiled convolutions are not kept there, because it is a link, or other users can write "
            "it or a folder above it",
            folder,
        )
    except OSError as error:
        logging.warning("compiled convolutions are not kept: %s", error)
    return None


def _compiler() -> tuple[str, ...]:
    """Returns the command of the C++ compiler: CXX with its options, or the first one found.

    Raises:
        FileNotFoundError: there is none.
    """
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        words = shlex.split(name)
        if words and os.name == "posix" and shutil.which(words[0]):
            return tuple(words)
    raise FileNotFoundError("there is no C++ compiler (c++, g++, clang++ or the one in CXX)")


@functools.cache
def _version(compiler: tuple[str, ...]) -> str:
    """Returns a digest of the compiler's version.

    Raises:
        OSError: it cannot be run.
        subprocess.SubprocessError: it does not end.
    """
    done = subprocess.run(
        (*compiler, "--version"),
        capture_output=True,
        timeout=_TIME_LIMIT,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return hashlib.sha256(done.stdout).hexdigest()[:8]


def _key() -> str:
    """Cache key of the compiled library: its sources, flags, jaxlib and the CPU."""
    compiler = os.environ.get("CXX", "")
    facts = (compiler, *_FLAGS, jaxlib.__version__, platform.system(), platform.machine(), _cpu())
    sources = sorted(path for path in _SOURCES.iterdir() if path.suffix in (".cc", ".h"))
    content = b"\0".join(path.read_bytes() for path in sources)
    return hashlib.sha256(content + "\0".join(facts).encode()).hexdigest()[:16]


def _cpu() -> str:
    """Returns the CPU's model and instruction sets, as far as the system reports them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    known = ("vendor_id", "model", "model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.split(":")[0].strip() in known}))
