"""How each dataset's download is laid out: folders to records, before any pixel is read."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from absl import logging

from mcl_jax.data.prepare import silhouette
from mcl_jax.data.records import Record, entries, scan_tree, subfolders
from mcl_jax.errors import DataError

GREW_PROBE = ("probe", "03")
"""Subject and condition that every probe of GREW has: whose they are is the secret of its challenge."""

_GREW_GALLERY_VIDEOS = 2

_PARTS = ("train", "test")

_ARCHIVES = (".tar", ".gz", ".tgz", ".zip", ".rar", ".7z")


@dataclasses.dataclass(frozen=True)
class Layout:
    """One kind of download.

    Attributes:
        scan: from the folder to the records of its sequences; their location is a folder of PNGs.
        expected: what `scan` looks for, to be shown.
        to_silhouette: from a raw frame [h, w] to a silhouette [64, 64].
        ignored: endings of PNG files that are no frames.
    """

    scan: Callable[[Path], Iterator[Record]]
    expected: str
    to_silhouette: Callable[[np.ndarray], np.ndarray] = silhouette.normalize
    ignored: tuple[str, ...] = ()

    def frames(self, folder: str) -> list[Path]:
        """Returns the PNG files of a sequence, by name."""
        names = [entry.name for entry in entries(folder) if self._is_frame(entry.name)]
        return [Path(folder, name) for name in sorted(names)]

    def _is_frame(self, name: str) -> bool:
        return name.lower().endswith(".png") and name[0] != "." and not name.endswith(self.ignored)


def _scan_three_levels(src: Path) -> Iterator[Record]:
    for subject in subfolders(src):
        for condition in subfolders(subject.path):
            for view in subfolders(condition.path):
                yield Record(subject.name, condition.name, view.name, view.path)


def _scan_subjects(src: Path) -> Iterator[Record]:
    for name in _PARTS:
        if (src / name).is_dir():
            raise DataError(
                f"--src: {str(src / name)!r} is no subject; give the folder of the subjects, or prepare grew"
            )
    yield from _scan_three_levels(src)


def _scan_grew(src: Path) -> Iterator[Record]:
    """Rearranges GREW into subject/condition/view, as every protocol of it names its sequences."""
    parts = {name: src / name for name in ("train", "test/gallery", "test/probe")}
    missing = [name for name, folder in parts.items() if not folder.is_dir()]
    if len(missing) == len(parts):
        return
    for name in missing:
        logging.warning("%s: no folder %s; going on without it", src, name)
        del parts[name]
    if "train" in parts:
        for subject in subfolders(parts["train"]):
            for video in subfolders(subject.path):
                yield Record(f"{subject.name}train", "00", video.name, video.path)
    if "test/gallery" in parts:
        for subject in subfolders(parts["test/gallery"]):
            # By name: in the order a disk lists them, scores would differ between machines.
            videos = subfolders(subject.path)
            if len(videos) > _GREW_GALLERY_VIDEOS:
                raise DataError(
                    f"{subject.path}: {len(videos)} videos, and GREW has two of a gallery subject; "
                    "remove what does not belong there"
                )
            for number, video in enumerate(videos, start=1):
                yield Record(subject.name, f"{number:02d}", video.name, video.path)
    if "test/probe" in parts:
        for video in subfolders(parts["test/probe"]):
            yield Record(*GREW_PROBE, video.name, video.path)


_TREE = Layout(_scan_subjects, "subject/condition/view/*.png")

LAYOUTS: dict[str, Layout] = {
    "casiab": _TREE,
    "grew": Layout(
        _scan_grew,
        "train/<id>/<video>/*.png, test/gallery/<id>/<video>/*.png, test/probe/<video>/*.png",
        to_silhouette=silhouette.keep,
        ignored=("_gei.png",),
    ),
    "gait3d": _TREE,
    "walkers": _TREE,
    "tree": _TREE,
}
"""Name of a dataset → its layout."""


def list_sequences(dataset: str, src: Path) -> tuple[list[Record], bool]:
    """Lists the sequences of a download, sorted.

    Returns:
        The records, and whether they are pkl files, prepared before, rather than folders of PNGs.

    Raises:
        DataError: if the name is unknown, the folder holds no such dataset, or two sequences share a name.
    """
    if dataset not in LAYOUTS:
        raise DataError(f"no dataset {dataset!r}; there are {', '.join(LAYOUTS)}")
    if not src.is_dir():
        raise DataError(f"--src: no folder {str(src)!r}; give the folder the dataset was unpacked into")
    archives = _packed_archives(src)
    for archive in archives:
        logging.warning("%s: not unpacked; what is in it is left out", archive)
    prepared = _holds_pkl(src)
    records = sorted(scan_tree(src) if prepared else LAYOUTS[dataset].scan(src))
    if not records:
        raise DataError(f"--src: no sequence under {str(src)!r}; {_remedy(dataset, archives)}")
    for first, second in itertools.pairwise(records):
        if first == second:
            raise DataError(
                f"{first.key}: two sequences of this name: {first.location}, {second.location}; "
                "rename or delete one of them"
            )
    return records, prepared


def _remedy(dataset: str, archives: Sequence[Path]) -> str:
    if archives:
        return f"unpack its archives first, e.g. {archives[0].name}"
    return f"expected {LAYOUTS[dataset].expected}"


def _packed_archives(src: Path) -> list[Path]:
    """Returns the archives in a folder beside which there is no folder of their name."""
    found = [Path(entry.path) for entry in entries(src) if entry.name.lower().endswith(_ARCHIVES)]
    return sorted(path for path in found if not (src / path.name.split(".")[0]).is_dir())


def _holds_pkl(src: Path) -> bool:
    """Whether the first sequence found at subject/condition/view is a pkl file."""
    for record in _scan_three_levels(src):
        suffixes = {Path(entry.name).suffix.lower() for entry in entries(record.location)}
        if suffixes & {".pkl", ".png"}:
            return ".pkl" in suffixes
    return False
