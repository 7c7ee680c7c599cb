"""Folder layouts of downloaded datasets; lists sequences without reading pixels."""

import dataclasses
import functools
import itertools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from absl import logging

from mcl_jax.data.prepare import silhouette
from mcl_jax.data.prepare.cleaning import Cleaning
from mcl_jax.data.prepare.frame_file import JPEG_ENDINGS
from mcl_jax.data.sequences import SequenceRef
from mcl_jax.data.stores.frames import HID_HEIGHT, SILHOUETTES, Pixels
from mcl_jax.data.stores.tree import entries, scan_tree, subfolders
from mcl_jax.errors import DataError

GREW_PROBE = ("probe", "03")
"""Subject and condition of every probe of GREW; only its challenge knows the real subjects."""

_GREW_GALLERY_VIDEOS = 2

HID_PROBE = "probe"
"""Subject of every probe of HID; only its competition knows the real subjects."""

_HID_PARTS = ("train", "gallery", HID_PROBE)  # words in the names of its folders
_HID_CONDITION = "default"  # it has no conditions

_CASIAE_ROOT = "forTrain"  # the folder inside its archives

_PARTS = ("train", "test")

_AS_IT_IS = Cleaning()

_ARCHIVES = (".tar", ".gz", ".tgz", ".zip", ".rar", ".7z")


@dataclasses.dataclass(frozen=True)
class Layout:
    """Folder layout of a download; picklable, so its functions must be module-level ones.

    Attributes:
        scan: function of the folder; yields its sequences, whose locations are folders of frames.
        expected: the layout that `scan` looks for, for messages.
        to_silhouette: turns a raw frame [h, w] into a silhouette, mostly [64, 64].
        scaled: whether its publisher scaled the frames, so that grey edges and separate pieces are normal.
        endings: endings of frame files, in lower case.
        ignored: endings of files that are no frames, although `endings` fits them.
        least_frames: sequences with fewer frames are left out.
        cleaning: cleaning of raw frames, before `to_silhouette`.
    """

    scan: Callable[[Path], Iterator[SequenceRef]]
    expected: str
    to_silhouette: Callable[[np.ndarray], np.ndarray] = silhouette.normalize
    scaled: bool = False
    endings: tuple[str, ...] = (".png",)
    ignored: tuple[str, ...] = ()
    least_frames: int = 1
    cleaning: Cleaning = _AS_IT_IS

    def frames(self, folder: str) -> list[Path]:
        """Returns the frame files of a sequence, in order."""
        names = [entry.name for entry in entries(folder) if self._is_frame(entry.name)]
        return [Path(folder, name) for name in self.cleaning.sort(names)]

    def _is_frame(self, name: str) -> bool:
        return name.lower().endswith(self.endings) and not name.endswith(self.ignored)


def why_no_frame(folder: str | Path) -> str:
    """Returns the reason why a folder has no frames, which are PNG files."""
    names = sorted(entry.name for entry in entries(folder))
    jpeg = next((name for name in names if name.lower().endswith((".jpg", ".jpeg"))), None)
    if jpeg is None:
        return "no PNG frame in it"
    return f"no PNG frame in it, but JPEG files, such as {jpeg}: convert them to PNG, with a threshold"


def _scan_three_levels(src: Path) -> Iterator[SequenceRef]:
    for subject, condition, view in _folders(src, 3):
        yield SequenceRef(subject.name, condition.name, view.name, view.path)


def _scan_subjects(src: Path) -> Iterator[SequenceRef]:
    for name in _PARTS:
        if (src / name).is_dir():
            raise DataError(
                f"--src: {str(src / name)!r} is not a subject; give the folder of the subjects, "
                "or use `mcl-jax prepare grew` if this is GREW"
            )
    yield from _scan_three_levels(src)


def _scan_grew(src: Path) -> Iterator[SequenceRef]:
    """Names GREW's sequences subject/condition/view, as its protocols expect."""
    parts = {name: src / name for name in ("train", "test/gallery", "test/probe")}
    missing = [name for name, folder in parts.items() if not folder.is_dir()]
    if len(missing) == len(parts):
        return
    for name in missing:
        logging.warning("%s: no folder %s; continuing without it", src, name)
        del parts[name]
    if "train" in parts:
        for subject in subfolders(parts["train"]):
            for video in subfolders(subject.path):
                yield SequenceRef(f"{subject.name}train", "00", video.name, video.path)
    if "test/gallery" in parts:
        for subject in subfolders(parts["test/gallery"]):
            # Sorted by name: the order of a directory listing would make scores differ between machines.
            videos = subfolders(subject.path)
            if len(videos) > _GREW_GALLERY_VIDEOS:
                raise DataError(
                    f"{subject.path}: {len(videos)} videos, but GREW has two of each gallery subject; "
                    "remove the others"
                )
            for number, video in enumerate(videos, start=1):
                yield SequenceRef(subject.name, f"{number:02d}", video.name, video.path)
    if "test/probe" in parts:
        for video in subfolders(parts["test/probe"]):
            yield SequenceRef(*GREW_PROBE, video.name, video.path)


_OUMVLP_FOLDER = re.compile(r"Silhouette_(\d{3})-(\d{2})")


def _scan_oumvlp(src: Path) -> Iterator[SequenceRef]:
    for folder in subfolders(src):
        found = _OUMVLP_FOLDER.fullmatch(folder.name)
        if found is None:
            logging.warning("%s: not a folder of OU-MVLP; ignored", folder.path)
            continue
        view, condition = found.groups()
        for subject in subfolders(folder.path):
            yield SequenceRef(subject.name, condition, view, subject.path)


def _scan_casiae(src: Path) -> Iterator[SequenceRef]:
    """Joins height, scene, clothing and number of a walk into its condition, as the protocol expects."""
    root = src / _CASIAE_ROOT
    for subject, height, scene, clothing, view in _folders(root if root.is_dir() else src, 5):
        for walk in subfolders(view.path):
            condition = "-".join([height.name, scene.name, clothing.name, walk.name])
            yield SequenceRef(subject.name, condition, view.name, walk.path)


def _folders(folder: Path | str, levels: int) -> Iterator[list[os.DirEntry[str]]]:
    """Yields each folder `levels` below a folder, preceded by the folders above it."""
    for entry in subfolders(folder):
        if levels == 1:
            yield [entry]
        else:
            for inside in _folders(entry.path, levels - 1):
                yield [entry, *inside]


def _scan_hid(src: Path) -> Iterator[SequenceRef]:
    """Gives each video its own view, by which a submission identifies probes."""
    for folder in subfolders(src):
        part = next((part for part in _HID_PARTS if part in folder.name.lower()), None)
        if part is None:
            logging.warning("%s: not a folder of HID; ignored", folder.path)
        elif part == HID_PROBE:
            for video in subfolders(folder.path):
                yield SequenceRef(HID_PROBE, _HID_CONDITION, video.name, video.path)
        else:
            for subject, video in _folders(folder.path, 2):
                yield SequenceRef(subject.name, _HID_CONDITION, video.name, video.path)


def _scan_nothing(src: Path) -> Iterator[SequenceRef]:
    del src
    return iter(())


SUBJECTS = Layout(_scan_subjects, "subject/condition/view/*.png")
"""CASIA-B, Gait3D, and any other dataset with folders subject/condition/view."""

GREW = Layout(
    _scan_grew,
    "train/<id>/<video>/*.png, test/gallery/<id>/<video>/*.png, test/probe/<video>/*.png",
    to_silhouette=silhouette.keep,
    scaled=True,
    ignored=("_gei.png",),
)

OUMVLP = Layout(_scan_oumvlp, "Silhouette_<view>-<condition>/<subject>/*.png")

PKL_ALONE = Layout(_scan_nothing, "a pkl tree, subject/condition/view/*.pkl")
"""Layout of datasets that cannot be prepared from raw frames."""

CASIAE = Layout(
    _scan_casiae,
    "<subject>/<height>/<scene>/<clothing>/<view>/<number>/*.jpg",
    to_silhouette=silhouette.scale,
    scaled=True,
    endings=(".png", *JPEG_ENDINGS),
    least_frames=6,
)

CCPG = Layout(
    _scan_subjects,
    "subject/condition/view/*.png",
    to_silhouette=functools.partial(silhouette.normalize, interpolation=cv2.INTER_AREA, nobody=0),
)

HID = Layout(
    _scan_hid,
    "train/<subject>/<video>/*.png, gallery/<subject>/<video>/*.png, probe/<video>/*.png",
    to_silhouette=silhouette.scale,
    scaled=True,
)

HID_128 = dataclasses.replace(HID, to_silhouette=functools.partial(silhouette.scale, size=HID_HEIGHT))


@dataclasses.dataclass(frozen=True)
class Download:
    """A dataset that can be prepared.

    Attributes:
        name: name of the dataset, a Python identifier.
        layout: its folder layout.
        description: one sentence about it, stored with its records.
        file: which file of a pkl tree to take, if folders hold several; see mcl_jax.data.stores.pkl_file.
        pixels: what its frames are.
    """

    name: str
    layout: Layout
    description: str
    file: str = ""
    pixels: Pixels = SILHOUETTES

    @property
    def settings(self) -> dict[str, Any]:
        """Options that differ from the defaults; stored in the output folder, compared by later runs."""
        return self.layout.cleaning.settings | ({"file": self.file} if self.file else {})


def list_sequences(layout: Layout, src: Path, file: str = "") -> tuple[list[SequenceRef], bool]:
    """Lists the sequences of a download, sorted.

    Args:
        layout: layout of the download.
        src: folder of the download, or a pkl tree made from it.
        file: in a pkl tree, which file of a folder to take.

    Returns:
        The sequences, and whether they are prepared pkl files instead of folders of frames.

    Raises:
        DataError: if the folder holds no such dataset, or two sequences share a name.
    """
    if not src.is_dir():
        raise DataError(f"--src: no folder {str(src)!r}; give the folder the dataset was unpacked into")
    archives = _packed_archives(src)
    for archive in archives:
        logging.warning("%s: archive is not unpacked; ignored", archive)
    prepared = holds_pkl(src)
    sequences = sorted(scan_tree(src, file) if prepared else layout.scan(src))
    if not sequences:
        raise DataError(f"--src: no sequence under {str(src)!r}; {_remedy(layout, archives)}")
    for first, second in itertools.pairwise(sequences):
        if first == second:
            raise DataError(
                f"{first.key}: two sequences have this name: {first.location}, {second.location}; "
                "rename one of them"
            )
    return sequences, prepared


def _remedy(layout: Layout, archives: Sequence[Path]) -> str:
    if archives:
        return f"unpack its archives first, e.g. {archives[0].name}"
    return f"expected {layout.expected}"


def _packed_archives(src: Path) -> list[Path]:
    """Returns the archives in a folder that have no folder of the same name beside them."""
    found = [Path(entry.path) for entry in entries(src) if entry.name.lower().endswith(_ARCHIVES)]
    return sorted(path for path in found if not (src / path.name.split(".")[0]).is_dir())


def holds_pkl(src: Path) -> bool:
    """Whether the first sequence found at subject/condition/view holds pkl files."""
    for sequence in _scan_three_levels(src):
        suffixes = {Path(entry.name).suffix.lower() for entry in entries(sequence.location)}
        if suffixes & {".pkl", ".png"}:
            return ".pkl" in suffixes
    return False
