"""Chooses the folder of a test in a workdir, so that no test overwrites the results of another.

`WORKDIR/test` is for the run's newest checkpoint on the run's data. A test of another step, other weights or
other data has its own folder beside it, such as test-40000 or test-gait3d.
"""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mcl_jax.errors import ConfigError
from mcl_jax.utils.files import read_bounded
from mcl_jax.workdir.checkpoints import AVERAGE, FOLDER
from mcl_jax.workdir.saved_config import last_config

TEST_FOLDER = "test"

_MAX_BYTES = 2**26
_LONGEST = 60  # letters of a name that go into the folder's name


@dataclasses.dataclass(frozen=True)
class TestSubject:
    """The weights and the data of a test, before any of them is read.

    Attributes:
        run: workdir of the run that made the weights, or their file.
        step: the requested step; None for the newest.
        dataset: name of the dataset in a config.
        root: folder of the dataset.
        digest: returns the digest of the test sequences; reads some of them.
        average: whether the weights are those averaged over training.
    """

    __test__ = False  # tells pytest that this is not a test

    run: Path
    step: int | None
    dataset: str
    root: Path
    digest: Callable[[], str]
    average: bool = False


def folder_of_test(workdir: Path, subject: TestSubject) -> Path:
    """Returns the folder for the results of a test.

    In a workdir without a run it is always `WORKDIR/test`.

    Args:
        workdir: the folder of a run, or any folder.
        subject: weights and data of the test.

    Raises:
        ConfigError: if the folder holds results of other weights or data.
        UserError: if the config of the run cannot be read.
    """
    if not (workdir / FOLDER).is_dir():
        folder = workdir / TEST_FOLDER
    else:
        names = [*_name_of_weights(workdir, subject), *_name_of_data(workdir, subject)]
        folder = workdir / "-".join([TEST_FOLDER, *names])
        if not names:
            return folder
    require_no_other(folder, subject)
    return folder


def require_no_other(folder: Path, subject: TestSubject) -> None:
    """Checks that a folder holds no results of other weights or data.

    Raises:
        ConfigError: if it does.
    """
    before = _metrics(folder)
    model, data = before.get("model") or {}, before.get("data") or {}
    if (
        "checkpoint" not in model or "root" not in data
    ):  # none, or from an older version, which did not record them
        return
    if _is_of(Path(model["checkpoint"]), subject) and not _is_elsewhere(data, subject):
        return
    before_this = f"{model['checkpoint']} on {data['dataset']}, {data['root']}"
    raise ConfigError(
        f"{folder}: holds a test of {before_this}, which this one would overwrite; give another "
        f"--workdir, with --config.init_from={subject.run}"
    )


def _name_of_weights(workdir: Path, subject: TestSubject) -> list[str]:
    run = [] if subject.run.resolve() == workdir.resolve() else [_plain(subject.run.stem)]
    step = [] if subject.step is None else [str(subject.step)]
    return [*run, *step, *[AVERAGE] * subject.average]


def _name_of_data(workdir: Path, subject: TestSubject) -> list[str]:
    """Returns a name for data other than the run's: the dataset's name, or else the root's."""
    before = _metrics(workdir / TEST_FOLDER).get("data") or {}
    trained = (last_config(workdir) or {}).get("data") or before
    if trained.get("dataset", subject.dataset) != subject.dataset:
        return [subject.dataset]
    is_known = before.get("dataset") == subject.dataset
    return [_plain(subject.root.name)] if is_known and _is_elsewhere(before, subject) else []


def _is_of(checkpoint: Path, subject: TestSubject) -> bool:
    """Whether a checkpoint is the one to test, or, if no step is requested, an older one of the run."""
    run = checkpoint.parent.parent if checkpoint.parent.name == FOLDER else checkpoint
    step, _, kind = checkpoint.name.partition("@")
    if checkpoint.parent.name == FOLDER and (kind == AVERAGE) != subject.average:
        return False
    return run == subject.run.absolute() and (subject.step is None or step == str(subject.step))


def _is_elsewhere(data: dict[str, Any], subject: TestSubject) -> bool:
    """Whether the sequences differ; data that only moved, or grew in the same place, do not count."""
    if data["dataset"] != subject.dataset:
        return True
    return data["root"] != str(subject.root.absolute()) and data["digest"] != subject.digest()


def _metrics(folder: Path) -> dict[str, Any]:
    """Returns the content of a metrics.json; nothing if it cannot be read."""
    try:
        content = json.loads(read_bounded(folder / "metrics.json", _MAX_BYTES))
    except (OSError, RecursionError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _plain(name: str) -> str:
    """Returns a name without characters that cause trouble in a shell or a file system."""
    return re.sub(r"[^\w.+-]", "_", name)[:_LONGEST] or "_"
