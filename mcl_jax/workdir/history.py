"""One run, one workdir: who holds it, and with which config each stretch of its steps was made."""

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import re
import secrets
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from mcl_jax.errors import ConfigError, UserError
from mcl_jax.models.registry import added_arguments, plain_block
from mcl_jax.utils.files import read_bounded, write_atomically
from mcl_jax.utils.pytrees import flat_keys

LOCK = "run.lock"
STRETCHES = "stretches.jsonl"

_BEAT_SECONDS = 20.0
_STALE_SECONDS = 300.0
_MAX_BYTES = 2**24
_LONGEST_NAME = 255  # bytes of a part of a path
# Where no run belongs, and below which nothing can be kept.
_SYSTEM = frozenset(
    Path("/", name)
    for name in (
        *("bin", "boot", "dev", "etc", "home", "lib", "lib32", "lib64", "media", "mnt", "opt", "proc"),
        *("root", "run", "sbin", "srv", "sys", "tmp", "usr", "var"),
    )
)
_KERNEL = frozenset(map(Path, ("/proc", "/sys", "/boot", "/etc", "/bin", "/sbin", "/lib", "/lib64")))
# What may differ between stretches of a run: where things lie, how fast, and what is only looked at.
_FREE = (
    "init_from",
    "data.root",
    "data.format",
    "data.partition",
    "data.on_error",
    "data.workers",
    "data.timeout",
    "train.steps",
    "train.log_every",
    "train.save_every",
    "train.keep",
    "train.keep_every",
    "train.keep_best",
    "train.test_every",
    "train.on_nonfinite",
    "train.max_skipped",
    "train.remat",
    "train.row_sizes",
    "eval.",
)


def check_workdir(workdir: Path, data_root: str) -> None:
    """Checks that a workdir is a folder where a run may write: a mistyped one would be strewn with its files.

    Args:
        workdir: of the run.
        data_root: folder of the dataset; "" for none.

    Raises:
        ConfigError: it is an address of object storage, no name of a folder, or a folder of something else.
    """
    # A path has lost a slash already.
    if re.match(r"[a-z][a-z0-9]+:/", str(workdir)):
        raise ConfigError(
            f"--workdir: {workdir} is object storage, where a run can hold no lock; use a folder of a "
            "disk, and copy that there afterwards"
        )
    # Checkpoints are written by C++, which takes UTF-8 alone.
    if not str(workdir).isprintable():
        raise ConfigError(f"--workdir: {str(workdir)!a} holds letters that cannot be shown; use another")
    if any(len(os.fsencode(part)) > _LONGEST_NAME for part in workdir.parts):
        raise ConfigError(f"--workdir: {str(workdir)[:40]}… is too long for the name of a folder; shorten it")
    try:
        folder = workdir.resolve()
        home = Path.home().resolve()
    except (OSError, RuntimeError) as error:  # a loop of links; a user without a home
        raise ConfigError(f"--workdir: {workdir}: {getattr(error, 'strerror', None) or error}") from None
    if folder == home or folder in home.parents:
        kind = "your home folder" if folder == home else "a folder of the system"
    elif folder.parent == folder or folder in _SYSTEM or any(parent in _KERNEL for parent in folder.parents):
        kind = "a folder of the system"
    elif data_root and _is_within(folder, Path(data_root)):
        kind = f"in data.root, {data_root}, which it would fill with other things than sequences"
    else:
        return
    raise ConfigError(f"--workdir: {workdir} is {kind}; use a folder of the run's own, such as runs/NAME")


def _is_within(folder: Path, root: Path) -> bool:
    try:
        root = root.resolve()
    except (OSError, RuntimeError, ValueError):  # no such root, which is said where it is opened
        return False
    return folder == root or root in folder.parents


@contextlib.contextmanager
def held(workdir: Path) -> Iterator["Lock"]:
    """Holds a workdir; the first host does so for all.

    Raises:
        UserError: on every host, if another run holds it, or it cannot be written.
    """
    lock, refused = Lock(workdir), None
    if jax.process_index() == 0:
        try:
            lock.take()
        except UserError as error:
            refused = error
    if jax.process_count() > 1 and multihost_utils.broadcast_one_to_all(np.int32(refused is not None)):
        raise refused or UserError(f"{workdir}: the first host cannot take it; see there")
    if refused is not None:
        raise refused
    try:
        yield lock
    finally:
        lock.release()


class Lock:
    """A file that names the run in a workdir, and is touched while that lives."""

    def __init__(self, workdir: Path):
        """Takes the workdir; `take` takes the lock."""
        self._path = workdir / LOCK
        self._token = secrets.token_hex(8)
        self._ended = threading.Event()
        self._held = False

    def take(self) -> None:
        """Makes the file; that of a run which has ended without removing it is taken over.

        Raises:
            UserError: saying who holds it and since when, or that it cannot be written.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if not self._make():
                self._take_over()
        except OSError as error:
            raise UserError(f"{self._path}: cannot be written: {error.strerror}") from None
        self._held = True
        threading.Thread(target=self._beat, name="lock", daemon=True).start()

    def release(self) -> None:
        """Removes the file, if it is ours."""
        self._ended.set()
        if self._held and _holder(self._path).get("token") == self._token:
            self._path.unlink(missing_ok=True)
        self._held = False

    def _make(self) -> bool:
        holder = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "born": _birth(os.getpid()),
            "since": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "token": self._token,
        }
        try:
            descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "w") as file:
            json.dump(holder, file)
        return True

    def _take_over(self) -> None:
        holder = _holder(self._path)
        who = (
            f"process {holder.get('pid', '?')} on {holder.get('host', '?')} since {holder.get('since', '?')}"
        )
        if not self._is_stale(holder):
            raise UserError(
                f"{self._path.parent}: another run is in this workdir, {who}; wait for it, or use another "
                f"--workdir"
            )
        aside = self._path.with_name(f"{LOCK}.{self._token}")
        with contextlib.suppress(FileNotFoundError):
            self._path.rename(aside)  # only one of several runs that want it gets it
            found = _holder(aside).get("token")
            if found != holder.get("token"):  # another was faster, and its new lock was moved
                aside.rename(self._path)
        aside.unlink(missing_ok=True)
        if not self._make():
            raise UserError(f"{self._path.parent}: another run has just started in this workdir; wait for it")
        logging.warning("%s: taken over from a run that has ended, %s", self._path.parent, who)

    def _is_stale(self, holder: Mapping[str, Any]) -> bool:
        if holder.get("host") == socket.gethostname() and isinstance(holder.get("pid"), int):
            return _birth(holder["pid"]) is None or _birth(holder["pid"]) != holder.get("born")
        # By the clock of the disk alone: those of two hosts differ.
        probe = self._path.with_name(f"{LOCK}.{self._token}")
        probe.touch()
        now = probe.stat().st_mtime
        probe.unlink()
        return now - self._path.stat().st_mtime > _STALE_SECONDS

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT_SECONDS):
            with contextlib.suppress(OSError):  # a disk that comes and goes
                os.utime(self._path)


def _holder(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_bounded(path, _MAX_BYTES))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _birth(pid: int) -> str | None:
    """Returns when a process of this machine was started, in the kernel's words; None if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return "unknown"


def changes(config: ConfigDict, workdir: Path) -> list[str]:
    """Returns what differs, in what matters, between a config and that of the last stretch of a run.

    Raises:
        UserError: if the record of it cannot be read.
    """
    before = _last_config(workdir)
    if before is None:
        return []
    if before.get("model", {}).get("name") == config.model.name:  # else the names differ, which is told
        before["model"] = plain_block(added_arguments(config.model.name)) | before["model"]
    old, new = flat_keys(before), flat_keys(_plain(config))
    return [
        f"{key} was {_shown(old.get(key))} and is {_shown(new.get(key))}"
        for key in sorted(old.keys() | new.keys())
        # A key that one of them has not is as if it were off: versions add such keys.
        if (old.get(key) or None) != (new.get(key) or None) and not _is_free(key, old, new)
    ]


def require_no_changes(config: ConfigDict, workdir: Path, step: int, *, accept: bool) -> list[str]:
    """Returns the changes of config since the last stretch, accepted.

    Args:
        config: of the stretch that begins.
        workdir: of the run.
        step: the one to go on from.
        accept: whether changes are meant.

    Raises:
        ConfigError: listing them, if they are not accepted.
    """
    listed = changes(config, workdir)
    if listed and not accept:
        raise ConfigError(
            f"{workdir}: the run there, at step {step}, was made with another config: {'; '.join(listed)}; "
            "give it the config it had, or --accept_changes to go on with this one, or another --workdir"
        )
    for line in listed:
        logging.warning("from step %d on: %s", step, line)
    return listed


def record_stretch(config: ConfigDict, workdir: Path, step: int, accepted: list[str]) -> None:
    """Adds a line to WORKDIR/stretches.jsonl: from which step on, with which config and versions."""
    if jax.process_index() != 0:
        return
    line = {
        "from_step": step,
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "accepted_changes": accepted,
        "versions": {"python": platform.python_version()}
        | {"mcl_jax": _own_version(), "jax": jax.__version__, "flax": flax.__version__},
        "revision": _revision(),
        "devices": [jax.device_count(), jax.devices()[0].device_kind],
        "hosts": jax.process_count(),
        "config": _plain(config),
    }
    path = workdir / STRETCHES
    before = _read(path) if path.exists() else b""
    write_atomically(path, before + json.dumps(line).encode() + b"\n")


def _last_config(workdir: Path) -> dict[str, Any] | None:
    """Returns the config of the last stretch; runs of older versions have only that of their last start."""
    for name in (STRETCHES, "config_train.json"):
        path = workdir / name
        if path.exists():
            content = _read(path)
            try:
                last = json.loads(content.splitlines()[-1] if name == STRETCHES else content)
                return dict(last["config"] if name == STRETCHES else last)
            except (ValueError, KeyError, IndexError, TypeError):
                raise UserError(f"{path}: is damaged; restore it from a copy, or remove it") from None
    return None


def _read(path: Path) -> bytes:
    try:
        return read_bounded(path, _MAX_BYTES)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def _plain(config: ConfigDict) -> dict[str, Any]:
    return json.loads(config.to_json_best_effort())


def _is_free(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    if key == "model.num_classes" and not (old.get(key) and new.get(key)):
        return True  # 0 stands for as many as there are
    return any(key == free or (free.endswith(".") and key.startswith(free)) for free in _FREE)


def _shown(value: Any) -> str:
    return "absent" if value is None else str(value)


def _own_version() -> str | None:
    """Returns the version that is installed; None for a checkout that is not."""
    try:
        return importlib.metadata.version("mcl_jax")
    except importlib.metadata.PackageNotFoundError:
        return None


def _revision() -> str | None:
    """Returns the git revision of a checkout that the package runs from."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
