"""Names of the folders of checkpoints, as Orbax finds them: a step each."""

import dataclasses
import datetime
from collections.abc import Iterator
from typing import Any

from orbax.checkpoint import path as orbax_path


@dataclasses.dataclass(frozen=True)
class _Undated(orbax_path.step.Metadata):
    """A checkpoint known only by its step and folder.

    Orbax also reads the time of the save from the checkpoint's description, which is not needed here. Some
    damage to that description would make Orbax fail on the whole folder, instead of skipping the checkpoint.
    """

    @property
    def commit_timestamp(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(0, datetime.UTC)


class StepFolders(orbax_path.step.NameFormat[_Undated]):
    """Folders named only by their step, as Orbax names them by default."""

    def __init__(self) -> None:
        self._standard = orbax_path.step.standard_name_format()

    def build_name(self, step: int) -> str:
        """Returns the name of a step's folder."""
        return str(step)

    def find_all(self, base_path: Any) -> Iterator[_Undated]:
        """Yields the finished checkpoints of a folder."""
        for found in self._standard.find_all(base_path):
            yield _Undated(found.step, found.path)

    def find_step(self, base_path: Any, step: int) -> _Undated:
        """Returns the checkpoint of a step."""
        found = self._standard.find_step(base_path, step)
        return _Undated(found.step, found.path)
