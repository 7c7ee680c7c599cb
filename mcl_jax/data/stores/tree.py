"""Lists and reads a tree of pickled arrays, ROOT/subject/condition/view/*.pkl, the layout of OpenGait."""

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mcl_jax.data.sequences import SequenceRef
from mcl_jax.data.stores.array_pickle import MAX_PICKLE_BYTES, NotAnArrayError, read_array
from mcl_jax.data.stores.frames import MEND, SILHOUETTES, Pixels, check_shape
from mcl_jax.data.stores.pkl_file import chosen_files, why_not_one
from mcl_jax.data.stores.silhouette_pickle import MAX_AROUND, shape_of
from mcl_jax.errors import DataError
from mcl_jax.utils.files import is_junk, read_bounded
from mcl_jax.utils.retry import retried

_FOOTAGE = "to make one of a video or a folder of masks: `mcl-jax silhouettes --video {} --out TREE`"
_MAX_SEARCHED = 100  # folders that are searched to explain why a tree has no sequence
_LEVELS = ("a level", "two levels", "three levels")


def scan_tree(root: Path, file: str = "") -> list[SequenceRef]:
    """Lists the sequences of a pkl tree ROOT/subject/condition/view/*.pkl, sorted.

    A folder that is unreadable, or does not have exactly one pkl file, is listed too, with the folder itself
    as location: `PklSource` reports the fault when the sequence is needed.

    Args:
        root: folder of the tree.
        file: choice of the file to take if folders hold several; see `pkl_file`.

    Raises:
        DataError: if there is no such tree, or no usable sequence in it.
    """
    return walk_tree(root, file)[0]


def walk_tree(root: Path, file: str = "") -> tuple[list[SequenceRef], list[str]]:
    """Lists a tree like `scan_tree`, and also returns all visited folders.

    Raises:
        DataError: as `scan_tree`.
    """
    if root.is_file():
        raise DataError(f"data.root: {root} is a file, not the folder of a pkl tree; {_FOOTAGE.format(root)}")
    if not root.is_dir():
        raise DataError(f"data.root: no folder {str(root)!r}; set it to the pkl tree of the dataset")
    sequences: list[SequenceRef] = []
    folders: list[str] = []

    def inside(folder: os.DirEntry[str], subject: str, condition: str = "") -> list[os.DirEntry[str]]:
        folders.append(folder.path)
        try:
            return subfolders(folder.path)
        except DataError:  # perhaps the sequence is not needed
            sequences.append(SequenceRef(subject, condition, "", folder.path))
            return []

    for subject in subfolders(root):
        for condition in inside(subject, subject.name):
            for view in inside(condition, subject.name, condition.name):
                folders.append(view.path)
                names = subject.name, condition.name, view.name
                sequences.append(SequenceRef(*names, _only_pkl(view.path, file) or view.path))
    if all(is_faulty(sequence) for sequence in sequences):
        raise DataError(_why_nothing(root, sequences, file))
    return sorted(sequences), folders


def is_faulty(sequence: SequenceRef) -> bool:
    """Whether the folder of a listed sequence has no pkl file, or several without a choice."""
    return not sequence.location.endswith(".pkl")


def _only_pkl(folder: str, choice: str) -> str | None:
    """Returns the path of the only chosen pkl file in a folder; None if there is not exactly one."""
    try:
        files = _pkl_files(folder, choice)
    except DataError:
        return None
    return os.path.join(folder, files[0]) if len(files) == 1 else None  # noqa: PTH118 - faster than a Path


def _pkl_files(folder: str | Path, choice: str = "") -> list[str]:
    return chosen_files([entry.name for entry in entries(folder) if entry.name.endswith(".pkl")], choice)


def one_pkl(folder: str | Path, choice: str = "") -> str:
    """Returns the name of the pkl file in the folder of a sequence.

    Args:
        folder: folder of the sequence.
        choice: choice of the file to take if there are several; see `pkl_file`.

    Raises:
        DataError: if there is none, or more than one, or the folder cannot be read.
    """
    files = _pkl_files(folder, choice)
    if len(files) == 1:
        return files[0]
    if present := _pkl_files(folder):
        raise DataError(f"{folder}: {why_not_one(present, choice)}")
    if any(entry.name.lower().endswith(".png") for entry in entries(folder)):
        raise DataError(f"{folder}: no .pkl file, but PNGs; prepare them first with `mcl-jax prepare`")
    if deeper := subfolders(folder):
        raise DataError(
            f"{folder}: no .pkl file but folders, such as {deeper[0].name!r}; expected "
            "subject/condition/view/*.pkl: set data.root to the folder of the subjects"
        )
    raise DataError(f"{folder}: no .pkl file; prepare the sequence again, or leave this person out")


def _why_nothing(root: Path, sequences: Sequence[SequenceRef], file: str) -> str:
    """Returns why a tree has no usable sequence: usually its root is a level too high or too low."""
    inside = subfolders(root)
    if any(entry.name.lower().endswith(".png") for entry in entries(root)):
        return f"data.root: {root} holds PNG frames, not a pkl tree; {_FOOTAGE.format(root)}"
    if sequences:
        deep = next((s for s in sequences if subfolders(s.location)), None)
        if deep is not None and len(inside) == 1:
            return (
                f"data.root: {root} is a level too high: its only folder is {inside[0].name!r}; set "
                f"--config.data.root={inside[0].path}"
            )
        if deep is not None:
            return (
                f"data.root: {root} has a level too many: expected subject/condition/view/*.pkl, but "
                f"{deep.location} holds folders; set data.root to the folder of the subjects"
            )
        try:
            one_pkl(sequences[0].location, file)
        except DataError as error:
            return str(error)
    # If pkl files are fewer than three levels below the root, the root is a subject, condition or view.
    for levels in (2, 1, 0):
        for path in itertools.islice(_folders_at(str(root), levels), _MAX_SEARCHED):
            if files := _pkl_files(path):
                above = root.resolve().parents[2 - levels]
                return (
                    f"data.root: {Path(path, files[0])} is {_LEVELS[2 - levels]} short of "
                    f"subject/condition/view/*.pkl; set --config.data.root={above} if that is the folder of "
                    "the subjects, or add the missing folders"
                )
    return f"data.root: no sequence under {str(root)!r}; expected subject/condition/view/*.pkl"


def _folders_at(folder: str, levels: int) -> Iterator[str]:
    """Yields the folders `levels` levels below a folder."""
    if levels == 0:
        yield folder
        return
    for inside in subfolders(folder):
        yield from _folders_at(inside.path, levels - 1)


def subfolders(folder: str | Path) -> list[os.DirEntry[str]]:
    """Returns the folders in a folder, sorted by name, without hidden ones.

    Raises:
        DataError: if it cannot be read.
    """
    return sorted((entry for entry in entries(folder) if entry.is_dir()), key=lambda entry: entry.name)


def entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """Returns the entries of a folder, without hidden ones and those created by operating systems.

    Raises:
        DataError: if it cannot be read.
    """

    def listed() -> list[os.DirEntry[str]]:
        with os.scandir(folder) as found:
            return [entry for entry in found if not is_junk(entry.name)]

    try:
        return retried(str(folder), listed)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}; check its permissions") from None


class PklSource:
    """Reads the arrays of a pkl tree. It accepts only NumPy arrays, and executes nothing from a file."""

    def __init__(self, file: str = "", pixels: Pixels = SILHOUETTES):
        """Takes the choice of files with which the tree was listed, and what their frames are."""
        self._file = file
        self._pixels = pixels

    def require_file(self, sequence: SequenceRef) -> None:
        """Checks that the folder of a listed sequence had one chosen pkl file, without reading it.

        Raises:
            DataError: if not, with the content of the folder.
        """
        if is_faulty(sequence):
            one_pkl(sequence.location, self._file)

    def look(self, sequence: SequenceRef) -> None:
        """Checks that a file opens and has frames of a usable size, without reading its pixels.

        A file of an unusual form is read completely.

        Raises:
            DataError: if not.
        """
        self.require_file(sequence)
        try:
            with Path(sequence.location).open("rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                head = file.read(MAX_AROUND)
                file.seek(max(0, size - MAX_AROUND))
                shape = shape_of(head, file.read(MAX_AROUND), size)
        except OSError as error:
            raise DataError(f"{sequence.location}: cannot be read: {error.strerror}; {MEND}") from None
        if not size:
            raise DataError(f"{sequence.location}: the file is empty (0 bytes); {MEND}")
        if shape is None:
            self.read(sequence)
        else:
            check_shape(shape, sequence.location, self._pixels.height)

    def read(self, sequence: SequenceRef) -> np.ndarray:
        """Returns the silhouettes of a sequence, uint8 [s, 64, 64 or 44].

        Raises:
            DataError: if the file is missing, damaged, or holds anything but such an array.
        """
        self.require_file(sequence)
        try:
            array = read_array(read_bounded(sequence.location, MAX_PICKLE_BYTES))
        except OSError as error:
            raise DataError(f"{sequence.location}: cannot be read: {error.strerror}; {MEND}") from None
        except NotAnArrayError as error:
            raise DataError(f"{sequence.location}: {error}; {MEND}") from None
        self._pixels.check(array, sequence.location)
        return array
