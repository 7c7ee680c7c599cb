"""History of a run: the config and versions of each stretch of its steps."""

import dataclasses
import datetime
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax
import jax
from absl import logging
from ml_collections import ConfigDict

from mcl_jax.config import write_config
from mcl_jax.data.fingerprint import DataFingerprint
from mcl_jax.errors import ConfigError, UserError
from mcl_jax.models.registry import added_arguments, plain_block
from mcl_jax.utils.files import read_bounded, write_atomically
from mcl_jax.utils.pytrees import flat_keys
from mcl_jax.workdir.trained_on import data_changes, write_trained_on

STRETCHES = "stretches.jsonl"

_MAX_BYTES = 2**24
# What may differ between stretches of a run: where things lie, how fast, and what is only looked at.
_FREE = (
    "init_from",
    "data.root",
    "data.format",
    "data.file",
    "data.partition",
    "data.on_error",
    "data.workers",
    "data.timeout",
    "train.keep_classifier",
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


def changes(config: ConfigDict, workdir: Path) -> list[str]:
    """Lists the differences that matter between a config and that of the run so far.

    Raises:
        UserError: if the record of it cannot be read.
    """
    before = last_config(workdir)
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


@dataclasses.dataclass(frozen=True)
class RunHistory:
    """Compares a run with its own past, and records how it goes on.

    Attributes:
        config: of the run.
        workdir: of the run.
        data: fingerprint of the data to train on.
        accept: whether changes of config and data are meant.
    """

    config: ConfigDict
    workdir: Path
    data: DataFingerprint
    accept: bool

    def require_unchanged(self, step: int, stored: Mapping[str, str] | None) -> list[str]:
        """Returns the changes since the run last went on, if they are accepted.

        Args:
            step: the one to go on from.
            stored: digests of the data in its checkpoint; None if it has none.

        Raises:
            ConfigError: listing the changes, if they are not accepted.
        """
        of_config = changes(self.config, self.workdir)
        self._require_accepted(of_config, "made with another config", step)
        of_data = data_changes(self.data, self.workdir, stored)
        self._require_accepted(of_data, "trained on other data", step)
        return of_config + [f"data: {line}" for line in of_data]

    def record(self, step: int, accepted: list[str]) -> None:
        """Writes from which step on the run goes on, and how; see `record_stretch`."""
        write_config(self.config, self.workdir / "config_train.json")
        record_stretch(self.config, self.workdir, step, accepted)
        write_trained_on(self.data, self.workdir, self.config.data.dataset)

    def _require_accepted(self, listed: list[str], difference: str, step: int) -> None:
        if listed and not self.accept:
            raise ConfigError(
                f"{self.workdir}: the run there, at step {step}, was {difference}: {'; '.join(listed)}; undo "
                "the change, or go on with --accept_changes, or use another --workdir"
            )
        for line in listed:
            logging.warning("from step %d on: %s", step, line)


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


def last_config(workdir: Path) -> dict[str, Any] | None:
    """Returns the config of the last stretch of a run, None where there is none.

    Runs of older versions have only that of their last start.

    Raises:
        UserError: if the record of it cannot be read.
    """
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
