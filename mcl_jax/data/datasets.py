"""The table of known datasets. To add a dataset, add an entry to `DATASETS`."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import logging

from mcl_jax.data.prepare import layouts
from mcl_jax.data.prepare.layouts import Download, Layout
from mcl_jax.data.sequences import Partition, SequenceRef, Source, Split, read_partition, select
from mcl_jax.data.stores.array_record import open_records
from mcl_jax.data.stores.frames import HID_SILHOUETTES, PARSING_MAPS, SILHOUETTES, Pixels
from mcl_jax.data.stores.listing import list_tree
from mcl_jax.data.stores.manifest import RECORDS_MANIFEST
from mcl_jax.data.stores.pkl_file import check_choice
from mcl_jax.data.stores.tree import PklSource
from mcl_jax.errors import ConfigError, DataError


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Settings of one dataset.

    Attributes:
        protocol: how it is scored, a key of mcl_jax.evaluation.protocols.PROTOCOLS.
        partition: its split into training and test subjects; None if it comes as a JSON file.
        layout: the folder layout of its download; the default is subject/condition/view.
        description: one sentence about it, stored with its records.
        file: which pkl file has the silhouettes, if each folder holds several; see
            mcl_jax.data.stores.pkl_file.
        pixels: what its frames are.
        title: its name in titles; "" for the name of the dataset that its protocol was made for.
    """

    protocol: str
    partition: Partition | None = None
    layout: Layout = layouts.SUBJECTS
    description: str = ""
    file: str = ""
    pixels: Pixels = SILHOUETTES
    title: str = ""


def _numbered(first: int, last: int, pattern: str) -> tuple[str, ...]:
    return tuple(pattern.format(i) for i in range(first, last + 1))


DATASETS: dict[str, Dataset] = {
    "casiab": Dataset(
        protocol="casiab",
        partition=Partition(train=_numbered(1, 74, "{:03d}"), test=_numbered(75, 124, "{:03d}")),
        description="CASIA-B: 124 people, 11 views, walking normally, with a bag, and in a coat.",
    ),
    "grew": Dataset(
        protocol="grew_submission",
        partition=Partition(
            train=_numbered(1, 20_000, "{:05d}train"), test=(*_numbered(1, 6_000, "{:05d}"), "probe")
        ),
        layout=layouts.GREW,
        description="GREW: 26,000 people seen by 882 cameras in the wild.",
    ),
    "gait3d": Dataset(
        protocol="gait3d",
        description="Gait3D: 4,000 people seen by 39 cameras in a supermarket.",
    ),
    "gait3d_parsing": Dataset(
        protocol="gait3d",
        layout=layouts.PKL_ALONE,
        description="Gait3D-Parsing: Gait3D with maps of body parts in place of silhouettes.",
        pixels=PARSING_MAPS,
        title="Gait3D-Parsing",
    ),
    "oumvlp": Dataset(
        protocol="oumvlp",
        layout=layouts.OUMVLP,
        description="OU-MVLP: 10,307 people seen from 14 views, each walking twice.",
    ),
    "casiae": Dataset(
        protocol="casiae",
        partition=Partition(train=_numbered(1, 200, "{:03d}"), test=_numbered(201, 1_014, "{:03d}")),
        layout=layouts.CASIAE,
        description="CASIA-E: 1,014 people in three scenes, from several views and two heights.",
    ),
    "ccpg": Dataset(
        protocol="ccpg_gait",
        partition=Partition(train=_numbered(0, 99, "{:03d}"), test=_numbered(100, 199, "{:03d}")),
        layout=layouts.CCPG,
        description="CCPG: 200 people who change their clothes, seen by 10 cameras.",
        file="*-aligned-sils.pkl|*.pkl",
    ),
    "sustech1k": Dataset(
        protocol="sustech1k",
        description="SUSTech1K: 1,050 people in many conditions, by camera and by LiDAR, which is not read.",
        file="06-*-Camera-Sils_aligned.pkl",
    ),
    "ccgr_mini": Dataset(
        protocol="ccgr_mini",
        description="CCGR-MINI: 970 people in 53 conditions, from 33 views.",
        file="*sil*.pkl|*.pkl",
    ),
    "hid": Dataset(
        protocol="hid_submission",
        layout=layouts.HID,
        description="HID: people seen from a distance; only the competition's organisers know the probes.",
    ),
    "hid_128": Dataset(
        protocol="hid_submission",
        layout=layouts.HID_128,
        description="HID in frames of 128×128, as its baseline takes them.",
        pixels=HID_SILHOUETTES,
    ),
    "freegait": Dataset(
        protocol="freegait",
        description="FreeGait: 1,195 people outdoors, in pictures and in point clouds, which are not read.",
    ),
    "walkers": Dataset(
        protocol="casiab",
        description="Synthetic walking people, drawn by `mcl-jax walkers`.",
        title="Synthetic people",
    ),
}
"""Name in `data.dataset` → dataset."""


def require_frames(dataset: str, model: str, frame_shape: tuple[int, int]) -> None:
    """Checks that a dataset has frames of the size that a model takes.

    Args:
        dataset: a key of `DATASETS`.
        model: name of the model, for the message.
        frame_shape: rows and columns of the frames that it takes.

    Raises:
        ConfigError: if not; it names the datasets that have such frames.
    """
    shapes = {name: entry.pixels.frame_shape for name, entry in DATASETS.items()}
    if shapes[dataset] != frame_shape:
        fitting = [name for name, shape in shapes.items() if shape == frame_shape]
        (height, width), (rows, columns) = shapes[dataset], frame_shape
        raise ConfigError(
            f"data.dataset: {dataset} has frames of {height}×{width}, but this {model} takes "
            f"{rows}×{columns}; choose {', '.join(fitting) or 'another model'}"
        )


ANY_TREE = "tree"
"""Name of the download of any other dataset with folders subject/condition/view."""


def downloads() -> dict[str, Download]:
    """Returns the downloads that can be prepared, by name on the command line."""
    known = {
        name: Download(name, entry.layout, entry.description, entry.file, entry.pixels)
        for name, entry in DATASETS.items()
    }
    return known | {ANY_TREE: Download(ANY_TREE, layouts.SUBJECTS, "Any tree of subject/condition/view.")}


def download_of(name: str) -> Download:
    """Returns the download with this name.

    Raises:
        DataError: if there is none; the message lists the known names.
    """
    known = downloads()
    if name not in known:
        raise DataError(f"no dataset {name!r}; there are {', '.join(known)}")
    return known[name]


def _open_tree(root: Path, file: str, pixels: Pixels) -> tuple[list[SequenceRef], Source]:
    return list_tree(root, file), PklSource(file, pixels)


def _open_records(root: Path, file: str, pixels: Pixels) -> tuple[list[SequenceRef], Source]:
    del file  # a record holds one array, so there is no file to choose
    return open_records(root, pixels)


def _open_either(root: Path, file: str, pixels: Pixels) -> tuple[Sequence[SequenceRef], Source]:
    # ArrayRecord files without a manifest are an incomplete copy; `open_records` refuses them.
    is_records = (root / RECORDS_MANIFEST).is_file() or any(root.glob("*.array_record*"))
    return (_open_records if is_records else _open_tree)(root, file, pixels)


OPENERS: dict[str, Callable[[Path, str, Pixels], tuple[Sequence[SequenceRef], Source]]] = {
    "": _open_either,
    "tree": _open_tree,
    "records": _open_records,
}
"""Value of `data.format` → function of the root, `data.file` and what frames are; "" detects the format."""


@dataclasses.dataclass(frozen=True)
class OpenDataset:
    """The sequences of a dataset, their split, and the source of their pixels.

    Attributes:
        name: its key in `DATASETS`.
        sequences: all sequences, sorted.
        partition: the training and test subjects.
        source: reads the pixels.
    """

    name: str
    sequences: tuple[SequenceRef, ...]
    partition: Partition
    source: Source

    def train_split(self) -> Split:
        """Returns the training sequences.

        Raises:
            DataError: if there are none, or the folder of a sequence has no pkl file or several.
        """
        return self._split(self.partition.train, "training")

    def test_split(self) -> Split:
        """Returns the test sequences.

        Raises:
            DataError: as `train_split`.
        """
        return self._split(self.partition.test, "test")

    def _split(self, people: Sequence[str], phase: str) -> Split:
        split = select(self.sequences, people, phase, self.source)
        pixels = DATASETS[self.name].pixels
        split = dataclasses.replace(split, one=pixels.one, frame_shape=pixels.frame_shape)
        if isinstance(self.source, PklSource):  # faulty folders of people outside the split do no harm
            for sequence in split.sequences:
                self.source.require_file(sequence)
        return split


def open_dataset(
    name: str, root: str | Path, *, partition: str | Path = "", file_format: str = "", file: str = ""
) -> OpenDataset:
    """Lists the sequences of a dataset without reading pixels.

    Args:
        name: a key of `DATASETS`.
        root: folder of the pkl tree or of the records.
        partition: path of a partition JSON, or "" for the dataset's built-in split.
        file_format: a key of `OPENERS`; "" detects whether the root is a tree or records.
        file: the pkl file to take if folders hold several, as a pattern such as "*-sil.pkl" or a
            number; "" for the dataset's default.

    Raises:
        DataError: if a name is unknown, or the root or the partition is missing or unusable.
    """
    if name not in DATASETS:
        raise DataError(f"data.dataset: no {name!r}; there are {', '.join(DATASETS)}")
    if file_format not in OPENERS:
        raise DataError(f"data.format: no {file_format!r}; there are {', '.join(filter(None, OPENERS))}")
    if not str(root):
        raise DataError("data.root is empty; set it to the folder of the dataset: --config.data.root=DIR")
    rule = read_partition(Path(partition)) if str(partition) else DATASETS[name].partition
    if rule is None:
        raise DataError(
            f"data.partition is empty, and {name} has no built-in split: set --config.data.partition=FILE"
        )
    check_choice(file)
    sequences, source = OPENERS[file_format](Path(root), file or DATASETS[name].file, DATASETS[name].pixels)
    people = {sequence.subject for sequence in sequences}
    if unused := sorted(people.difference(rule.train, rule.test)):
        logging.warning(
            "%d of the %d people in %s are in neither the training nor the test set, such as %r",
            len(unused),
            len(people),
            root,
            unused[0],
        )
    return OpenDataset(name, tuple(sequences), rule, source)
