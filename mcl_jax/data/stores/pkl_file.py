"""Chooses the pkl file with the silhouettes in the folder of a sequence.

A choice is a text: "" for the only pkl file; a number, counting the files in order of their names from 1; a
pattern such as "*-sil.pkl"; or several of these separated by |, of which the first that fits a file is used.
"""

import fnmatch
from collections.abc import Sequence

from mcl_jax.errors import DataError

_EITHER = "|"
_MAX_DIGITS = 6
_MAX_LISTED = 20  # SUSTech1K has 16 files in a folder


def chosen_files(names: Sequence[str], choice: str) -> list[str]:
    """Returns the pkl files that a choice fits, sorted; in a sound folder this is one file.

    Args:
        names: names of the pkl files in a folder, in any order.
        choice: see above.
    """
    ordered = sorted(names)
    for part in choice.split(_EITHER):
        if _is_number(part):
            fitting = ordered[int(part) - 1 : int(part)]
        else:
            fitting = [name for name in ordered if fnmatch.fnmatchcase(name, part or "*")]
        if fitting:
            return fitting
    return []


def check_choice(choice: str) -> None:
    """Checks that a choice can fit a file.

    Raises:
        DataError: if not.
    """
    for part in choice.split(_EITHER):
        if _is_number(part) and not int(part):
            raise DataError(f"data.file: is {choice!r}; files are numbered from 1, in order of their names")


def why_not_one(names: Sequence[str], choice: str) -> str:
    """Returns an error message for a choice that fits none or several of the pkl files in a folder.

    Args:
        names: names of the pkl files in a folder, at least one.
        choice: the choice that fits none or several of them.
    """
    fitting = chosen_files(names, choice)
    if not fitting:
        wanted = f"no file {choice!r} (data.file)"
        if _is_number(choice):
            wanted = f"there are {len(names)} pkl files, and data.file asks for number {choice}"
        return f"{wanted}; there are {listed(sorted(names))}"
    return (
        f"{len(fitting)} pkl files, {listed(fitting)}; say which has the silhouettes, by a pattern that fits "
        f"it alone, or by its number: --config.data.file='{_example(fitting)}' (mcl-jax prepare: --file)"
    )


def listed(names: Sequence[str]) -> str:
    """Returns names in one line."""
    return ", ".join(names[:_MAX_LISTED]) + ", …" * (len(names) > _MAX_LISTED)


def _is_number(part: str) -> bool:
    return part.isascii() and part.isdigit() and len(part) <= _MAX_DIGITS


def _example(files: Sequence[str]) -> str:
    """Returns a pattern that fits only the first of some files."""
    name = files[0]
    ends = [name[i:] for i in range(len(name) - len(".pkl") - 1, 0, -1)]
    alone = (end for end in ends if sum(other.endswith(end) for other in files) == 1 and not end[0].isalnum())
    return "*" + next(alone, name)
