"""History of a run: the config and versions of each stretch of its steps."""

import dataclasses
import datetime
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
from mcl_jax.errors import ConfigError
from mcl_jax.models.registry import added_arguments, plain_block
from mcl_jax.utils.files import write_atomically
from mcl_jax.utils.pytrees import flat_keys
from mcl_jax.utils.version import own_version
from mcl_jax.workdir.saved_config import CONFIG, STRETCHES, last_config, read_record
from mcl_jax.workdir.trained_on import data_changes, write_trained_on

# Keys that may change when a run is resumed: paths, speed, reports and tests.
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
    "train.fit_partly",
    "train.steps",
    "train.log_every",
    "train.save_every",
    "train.keep",
    "train.keep_every",
    "train.keep_best",
    "train.test_every",
    "train.loggers",
    "train.on_nonfinite",
    "train.max_skipped",
    "train.remat",
    "train.row_sizes",
    "eval.",
)

# Keys of later versions that are off at another value than 0, False or "".
_OFF = {"train.accumulate": 1}


def changes(config: ConfigDict, workdir: Path) -> list[str]:
    """Lists the differences that matter between a config and that of the run so far.

    Raises:
        UserError: if the record of it cannot be read.
    """
    before = last_config(workdir)
    if before is None:
        return []
    if before.get("model", {}).get("name") == config.model.name:  # otherwise the different names are listed
        before["model"] = plain_block(added_arguments(config.model.name)) | before["model"]
    old, new = _OFF | flat_keys(before), flat_keys(_plain(config))
    return [
        f"{key} was {_shown(old.get(key))} and is {_shown(new.get(key))}"
        for key in sorted(old.keys() | new.keys())
        # A key missing on one side counts as switched off: newer versions add such keys.
        if (old.get(key) or None) != (new.get(key) or None) and not _is_free(key, old, new)
    ]


@dataclasses.dataclass(frozen=True)
class RunHistory:
    """Compares a run with its own past, and records how it continues.

    Attributes:
        config: config of the run.
        workdir: folder of the run.
        data: fingerprint of the training data.
        accept: whether to accept changes of config and data.
    """

    config: ConfigDict
    workdir: Path
    data: DataFingerprint
    accept: bool

    def require_unchanged(self, step: int, stored: Mapping[str, str] | None) -> list[str]:
        """Returns the changes since the run was last started, if they are accepted.

        Args:
            step: the step to continue from.
            stored: digests of the data in the checkpoint; None if it has none.

        Raises:
            ConfigError: listing the changes, if they are not accepted.
        """
        of_config = changes(self.config, self.workdir)
        self._require_accepted(of_config, "made with another config", step)
        of_data = data_changes(self.data, self.workdir, stored)
        self._require_accepted(of_data, "trained on other data", step)
        return of_config + [f"data: {line}" for line in of_data]

    def record(self, step: int, accepted: list[str]) -> None:
        """Records the step from which the run continues, and its config; see `record_stretch`."""
        write_config(self.config, self.workdir / CONFIG)
        record_stretch(self.config, self.workdir, step, accepted)
        write_trained_on(self.data, self.workdir, self.config.data.dataset)

    def _require_accepted(self, listed: list[str], difference: str, step: int) -> None:
        if listed and not self.accept:
            raise ConfigError(
                f"{self.workdir}: its run, at step {step}, was {difference}: {'; '.join(listed)}; undo "
                "the change, or continue with --accept_changes, or use another --workdir"
            )
        for line in listed:
            logging.warning("from step %d on: %s", step, line)


def record_stretch(config: ConfigDict, workdir: Path, step: int, accepted: list[str]) -> None:
    """Adds a line to WORKDIR/stretches.jsonl: the first step, the config and the versions."""
    if jax.process_index() != 0:
        return
    line = {
        "from_step": step,
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "accepted_changes": accepted,
        "versions": {"python": platform.python_version()}
        | {"mcl_jax": own_version(), "jax": jax.__version__, "flax": flax.__version__},
        "revision": _revision(),
        "devices": [jax.device_count(), jax.devices()[0].device_kind],
        "hosts": jax.process_count(),
        "config": _plain(config),
    }
    path = workdir / STRETCHES
    before = read_record(path) if path.exists() else b""
    write_atomically(path, before + json.dumps(line).encode() + b"\n")


def restarts(workdir: Path) -> dict[int, str]:
    """Returns the steps that a run went on from, each with the step, the day and what had changed as text.

    Raises:
        UserError: if the record of it cannot be read.
    """
    found: dict[int, str] = {}
    path = workdir / STRETCHES
    for line in read_record(path).splitlines() if path.exists() else ():
        try:
            stretch = json.loads(line)
            step, day = int(stretch["from_step"]), str(stretch["started"])[:10]
            changed = "; ".join(map(str, stretch["accepted_changes"]))
        except (ValueError, KeyError, TypeError):
            continue  # of the page alone; going on with such a record is refused elsewhere
        # One that goes back further makes void those after it.
        found = {before: text for before, text in found.items() if before < step}
        found[step] = f"step {step:,} ({day})" + (f": {changed}" if changed else "")
    return found


def _plain(config: ConfigDict) -> dict[str, Any]:
    return json.loads(config.to_json_best_effort())


def _is_free(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    if key == "model.num_classes" and not (old.get(key) and new.get(key)):
        return True  # 0 stands for the number of training subjects
    return any(key == free or (free.endswith(".") and key.startswith(free)) for free in _FREE)


def _shown(value: Any) -> str:
    return "absent" if value is None else str(value)


def _revision() -> str | None:
    """Returns the git revision of the checkout that the package runs from; None without one."""
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
