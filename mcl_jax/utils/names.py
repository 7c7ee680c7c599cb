"""Finds names that are spelled differently in two places, such as "1" and "001"."""

import re
from collections.abc import Collection


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


def _plain_name(name: str) -> str:
    return re.sub(r"(?<!\d)0+(?=\d)", "", name.casefold())
