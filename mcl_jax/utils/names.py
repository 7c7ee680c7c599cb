"""Finds names that are spelled differently in two places, such as "1" and "001"."""

import re
from collections.abc import Collection, Iterable


def written_otherwise(names: Collection[str], there: Collection[str]) -> str:
    """Returns a hint about a name that differs only in leading zeros or capitals, such as "1" and "001".

    Args:
        names: the names that were looked for.
        there: the names that exist.

    Returns:
        `; '1' is written '001' there`, or "".
    """
    forms = {_plain_name(name): name for name in there}
    alike = next((name for name in sorted(names) if _plain_name(name) in forms), None)
    return "" if alike is None else f"; {alike!r} is written {forms[_plain_name(alike)]!r} there"


def short_name(name: str, most: int) -> str:
    """Returns a name without its middle if it is longer: names that people make up differ at either end."""
    if len(name) <= most:
        return name
    end = (most - 1) // 2
    return f"{name[: most - 1 - end]}…{name[-end:]}"


def short_names(names: Iterable[str], most: int) -> dict[str, str]:
    """Returns each name with its `short_name`; those that would be equal get a number behind it."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in dict.fromkeys(names):
        short, number = short_name(name, most), 1
        while short in taken:
            number += 1
            short = f"{short_name(name, most)} ({number})"
        found[name] = short
        taken.add(short)
    return found


def _plain_name(name: str) -> str:
    return re.sub(r"(?<!\d)0+(?=\d)", "", name.casefold())
