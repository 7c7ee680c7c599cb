"""The datasets we know, as data: adding one is adding an entry to `DATASETS`."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from mcl_jax.data.listing import list_tree
from mcl_jax.data.records import Partition, Record, Source, Split, read_partition, select
from mcl_jax.data.sources import PklSource, open_records
from mcl_jax.errors import DataError


@dataclasses.dataclass(frozen=True)
class Dataset:
    """What is special about a dataset.

    Attributes:
        protocol: how it is scored, a key of mcl_jax.evaluation.protocols.PROTOCOLS.
        partition: its split where that is a rule; None where it comes as a JSON file.
    """

    protocol: str
    partition: Partition | None = None


def _numbered(first: int, last: int, pattern: str) -> tuple[str, ...]:
    return tuple(pattern.format(i) for i in range(first, last + 1))


DATASETS: dict[str, Dataset] = {
    "casiab": Dataset(
        "casiab", Partition(train=_numbered(1, 74, "{:03d}"), test=_numbered(75, 124, "{:03d}"))
    ),
    "grew": Dataset(
        "grew_submission",
        Partition(train=_numbered(1, 20_000, "{:05d}train"), test=(*_numbered(1, 6_000, "{:05d}"), "probe")),
    ),
    "gait3d": Dataset("gait3d"),
    "oumvlp": Dataset("oumvlp"),
    "walkers": Dataset("casiab"),
}
"""Name in `data.dataset` → dataset."""


def _open_tree(root: Path) -> tuple[list[Record], Source]:
    return list_tree(root), PklSource()


OPENERS: dict[str, Callable[[Path], tuple[list[Record], Source]]] = {
    "tree": _open_tree,
    "records": open_records,
}
"""Value of `data.format` → function of the root."""


@dataclasses.dataclass(frozen=True)
class OpenDataset:
    """The sequences of a dataset, how they are split, and where their pixels come from."""

    records: tuple[Record, ...]
    partition: Partition
    source: Source

    def train_split(self) -> Split:
        """Returns the training sequences.

        Raises:
            DataError: if there are none.
        """
        return select(self.records, self.partition.train, "training", self.source)

    def test_split(self) -> Split:
        """Returns the test sequences.

        Raises:
            DataError: if there are none.
        """
        return select(self.records, self.partition.test, "test", self.source)


def open_dataset(name: str, root: str, partition: str, file_format: str) -> OpenDataset:
    """Lists the sequences of a dataset; no pixel is read.

    Args:
        name: a key of `DATASETS`.
        root: folder of the pkl tree or of the records.
        partition: path of a partition JSON, or "" for the dataset's own rule.
        file_format: a key of `OPENERS`.

    Raises:
        DataError: if the root or the partition is missing or unusable.
    """
    if not root:
        raise DataError("data.root is empty; set it to the folder of the dataset: --config.data.root=DIR")
    rule = read_partition(Path(partition)) if partition else DATASETS[name].partition
    if rule is None:
        raise DataError(
            f"data.partition is empty, and {name} has no rule for its split: set --config.data.partition"
        )
    records, source = OPENERS[file_format](Path(root))
    return OpenDataset(tuple(records), rule, source)
