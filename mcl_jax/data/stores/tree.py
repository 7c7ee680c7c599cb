"""A tree of pickled arrays, ROOT/subject/condition/view/*.pkl, as OpenGait reads it."""

import os
from pathlib import Path

import numpy as np

from mcl_jax.data.sequences import SequenceRef
from mcl_jax.data.stores.array_pickle import MAX_PICKLE_BYTES, NotAnArrayError, read_array
from mcl_jax.data.stores.frames import MEND, check_frames
from mcl_jax.errors import DataError
from mcl_jax.utils.files import read_bounded
from mcl_jax.utils.retry import retried

_FOOTAGE = "a video or a folder of masks becomes one by `mcl-jax silhouettes --video {} --out TREE`"


def scan_tree(root: Path) -> list[SequenceRef]:
    """Lists the sequences of a pkl tree ROOT/subject/condition/view/*.pkl, sorted.

    Of several files in one folder the first by name is the silhouettes, as in the reference.

    Raises:
        DataError: if there is no such tree, or a sequence folder without a pkl file.
    """
    return walk_tree(root)[0]


def walk_tree(root: Path) -> tuple[list[SequenceRef], list[str]]:
    """Does what `scan_tree` does, and returns every folder below the root that was looked into, too.

    Raises:
        DataError: as `scan_tree`.
    """
    if root.is_file():
        raise DataError(f"data.root: {root} is a file, not the folder of a pkl tree; {_FOOTAGE.format(root)}")
    if not root.is_dir():
        raise DataError(f"data.root: no folder {str(root)!r}; set it to the pkl tree of the dataset")
    sequences, folders = [], []
    for subject in subfolders(root):
        folders.append(subject.path)
        for condition in subfolders(subject.path):
            folders.append(condition.path)
            for view in subfolders(condition.path):
                folders.append(view.path)
                file = _first_pkl(view.path)
                if file is None:
                    raw = any(entry.name.lower().endswith(".png") for entry in entries(view.path))
                    remedy = (
                        "its PNGs must be prepared first, by scripts/prepare_data.py"
                        if raw
                        else "remove the folder or prepare the sequence again"
                    )
                    raise DataError(f"{view.path}: no .pkl file; {remedy}")
                sequences.append(SequenceRef(subject.name, condition.name, view.name, file))
    if not sequences and any(entry.name.lower().endswith(".png") for entry in entries(root)):
        raise DataError(f"data.root: {root} holds PNG frames, and is no pkl tree; {_FOOTAGE.format(root)}")
    if not sequences:
        raise DataError(f"data.root: no sequence under {str(root)!r}; expected subject/condition/view/*.pkl")
    return sorted(sequences), folders


def subfolders(folder: str | Path) -> list[os.DirEntry[str]]:
    """Returns the folders in a folder, by name, without hidden ones.

    Raises:
        DataError: if it cannot be read.
    """
    found = [entry for entry in entries(folder) if not entry.name.startswith(".") and entry.is_dir()]
    return sorted(found, key=lambda entry: entry.name)


def entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """Returns what is in a folder.

    Raises:
        DataError: if it cannot be read.
    """

    def listed() -> list[os.DirEntry[str]]:
        with os.scandir(folder) as found:
            return list(found)

    try:
        return retried(str(folder), listed)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}; check its permissions") from None


def _first_pkl(folder: str) -> str | None:
    files = (e.path for e in entries(folder) if e.name.endswith(".pkl") and e.name != ".pkl")
    return min(files, default=None)


class PklSource:
    """The pickled arrays of a pkl tree. Only NumPy arrays are accepted, and nothing in a file is executed."""

    def read(self, sequence: SequenceRef) -> np.ndarray:
        """Returns the silhouettes of a sequence, uint8 [s, 64, 64 or 44].

        Raises:
            DataError: if the file is missing, damaged, or holds anything but such an array.
        """
        try:
            array = read_array(read_bounded(sequence.location, MAX_PICKLE_BYTES))
        except OSError as error:
            raise DataError(f"{sequence.location}: cannot be read: {error.strerror}; {MEND}") from None
        except NotAnArrayError as error:
            raise DataError(f"{sequence.location}: {error}; {MEND}") from None
        return check_frames(array, sequence.location)
