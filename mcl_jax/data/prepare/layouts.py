"""Folder layouts of datasets as downloaded; no pixel is read."""

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
from mcl_jax.data.stores.frames import SILHOUETTES, Pixels
from mcl_jax.data.stores.tree import entries, scan_tree, subfolders
from mcl_jax.errors import DataError

GREW_PROBE = ("probe", "03")
"""Subject and condition that every probe of GREW has: whose they are is the secret of its challenge."""

_GREW_GALLERY_VIDEOS = 2

HID_PROBE = "probe"
"""Subject that every probe of HID has: whose they are is the secret of its competition."""

_HID_PARTS = ("train", "gallery", HID_PROBE)  # parts of the names of its folders
_HID_CONDITION = "default"  # it has no conditions

_CASIAE_ROOT = "forTrain"  # the folder inside of its archives

_PARTS = ("train", "test")

_AS_IT_IS = Cleaning()

_ARCHIVES = (".tar", ".gz", ".tgz", ".zip", ".rar", ".7z")


@dataclasses.dataclass(frozen=True)
class Layout:
    """One kind of download; picklable, so its functions are those of a module.

    Attributes:
        scan: from the folder to references to its sequences; their location is a folder of frames.
        expected: what `scan` looks for, to be shown.
        to_silhouette: from a raw frame [h, w] to a silhouette [64, 64].
        endings: of the files of frames, in small letters.
        ignored: endings of such files that are not frames.
        least_frames: sequences of fewer are left out.
        cleaning: of raw frames, before that.
    """

    scan: Callable[[Path], Iterator[SequenceRef]]
    expected: str
    to_silhouette: Callable[[np.ndarray], np.ndarray] = silhouette.normalize
    endings: tuple[str, ...] = (".png",)
    ignored: tuple[str, ...] = ()
    least_frames: int = 1
    cleaning: Cleaning = _AS_IT_IS

    def frames(self, folder: str) -> list[Path]:
        """Returns the files of a sequence's frames, in their order."""
        names = [entry.name for entry in entries(folder) if self._is_frame(entry.name)]
        return [Path(folder, name) for name in self.cleaning.sort(names)]

    def _is_frame(self, name: str) -> bool:
        return name.lower().endswith(self.endings) and not name.endswith(self.ignored)


def why_no_frame(folder: str | Path) -> str:
    """Returns why a folder without PNG files has no frame."""
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
                "or prepare grew"
            )
    yield from _scan_three_levels(src)


def _scan_grew(src: Path) -> Iterator[SequenceRef]:
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
                yield SequenceRef(f"{subject.name}train", "00", video.name, video.path)
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
                yield SequenceRef(subject.name, f"{number:02d}", video.name, video.path)
    if "test/probe" in parts:
        for video in subfolders(parts["test/probe"]):
            yield SequenceRef(*GREW_PROBE, video.name, video.path)


_OUMVLP_FOLDER = re.compile(r"Silhouette_(\d{3})-(\d{2})")


def _scan_oumvlp(src: Path) -> Iterator[SequenceRef]:
    for folder in subfolders(src):
        found = _OUMVLP_FOLDER.fullmatch(folder.name)
        if found is None:
            logging.warning("%s: not a folder of OU-MVLP's; what is in it is left out", folder.path)
            continue
        view, condition = found.groups()
        for subject in subfolders(folder.path):
            yield SequenceRef(subject.name, condition, view, subject.path)


def _scan_casiae(src: Path) -> Iterator[SequenceRef]:
    """Joins height, scene, clothing and number of a walk to its condition, as the protocol names it."""
    root = src / _CASIAE_ROOT
    for subject, height, scene, clothing, view in _folders(root if root.is_dir() else src, 5):
        for walk in subfolders(view.path):
            condition = "-".join([height.name, scene.name, clothing.name, walk.name])
            yield SequenceRef(subject.name, condition, view.name, walk.path)


def _folders(folder: Path | str, levels: int) -> Iterator[list[os.DirEntry[str]]]:
    """Yields the folders so many levels below a folder, each behind those that it lies in."""
    for entry in subfolders(folder):
        if levels == 1:
            yield [entry]
        else:
            for inside in _folders(entry.path, levels - 1):
                yield [entry, *inside]


def _scan_hid(src: Path) -> Iterator[SequenceRef]:
    """Gives each video a view of its own: a submission tells probes by it."""
    for folder in subfolders(src):
        part = next((part for part in _HID_PARTS if part in folder.name.lower()), None)
        if part is None:
            logging.warning("%s: not a folder of HID's; what is in it is left out", folder.path)
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
"""CASIA-B, Gait3D, and whatever else lies as every protocol names its sequences."""

GREW = Layout(
    _scan_grew,
    "train/<id>/<video>/*.png, test/gallery/<id>/<video>/*.png, test/probe/<video>/*.png",
    to_silhouette=silhouette.keep,
    ignored=("_gei.png",),
)

OUMVLP = Layout(_scan_oumvlp, "Silhouette_<view>-<condition>/<subject>/*.png")

PKL_ALONE = Layout(_scan_nothing, "a pkl tree, subject/condition/view/*.pkl")
"""What is not prepared from raw frames here."""

CASIAE = Layout(
    _scan_casiae,
    "<subject>/<height>/<scene>/<clothing>/<view>/<number>/*.jpg",
    to_silhouette=silhouette.scale,
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
)


@dataclasses.dataclass(frozen=True)
class Download:
    """A dataset as it is downloaded: its layout and reader.

    Attributes:
        name: the dataset's, a Python identifier.
        layout: how its folders lie.
        description: one sentence about it, kept with its records.
        file: which file to take of a pkl tree, where folders hold several; see mcl_jax.data.stores.pkl_file.
        pixels: what its frames are.
    """

    name: str
    layout: Layout
    description: str
    file: str = ""
    pixels: Pixels = SILHOUETTES

    @property
    def settings(self) -> dict[str, Any]:
        """Choices that differ from the defaults; the output folder keeps them, and later runs compare."""
        return self.layout.cleaning.settings | ({"file": self.file} if self.file else {})


def list_sequences(layout: Layout, src: Path, file: str = "") -> tuple[list[SequenceRef], bool]:
    """Lists the sequences of a download, sorted.

    Args:
        layout: how it lies.
        src: its folder.
        file: which file of a folder to take, where it is a pkl tree.

    Returns:
        The sequences, and whether they are pkl files, prepared before, rather than folders of PNGs.

    Raises:
        DataError: if the folder holds no such dataset, or two sequences share a name.
    """
    if not src.is_dir():
        raise DataError(f"--src: no folder {str(src)!r}; give the folder the dataset was unpacked into")
    archives = _packed_archives(src)
    for archive in archives:
        logging.warning("%s: not unpacked; what is in it is left out", archive)
    prepared = holds_pkl(src)
    sequences = sorted(scan_tree(src, file) if prepared else layout.scan(src))
    if not sequences:
        raise DataError(f"--src: no sequence under {str(src)!r}; {_remedy(layout, archives)}")
    for first, second in itertools.pairwise(sequences):
        if first == second:
            raise DataError(
                f"{first.key}: two sequences of this name: {first.location}, {second.location}; "
                "rename one of them"
            )
    return sequences, prepared


def _remedy(layout: Layout, archives: Sequence[Path]) -> str:
    if archives:
        return f"unpack its archives first, e.g. {archives[0].name}"
    return f"expected {layout.expected}"


def _packed_archives(src: Path) -> list[Path]:
    """Returns the archives in a folder beside which there is no folder of their name."""
    found = [Path(entry.path) for entry in entries(src) if entry.name.lower().endswith(_ARCHIVES)]
    return sorted(path for path in found if not (src / path.name.split(".")[0]).is_dir())


def holds_pkl(src: Path) -> bool:
    """Whether the first sequence found at subject/condition/view is a pkl file."""
    for sequence in _scan_three_levels(src):
        suffixes = {Path(entry.name).suffix.lower() for entry in entries(sequence.location)}
        if suffixes & {".pkl", ".png"}:
            return ".pkl" in suffixes
    return False
