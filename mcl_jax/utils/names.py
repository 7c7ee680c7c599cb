"""Names that people and programs write in different ways."""

import re
from collections.abc import Collection


def written_otherwise(names: Collection[str], there: Collection[str]) -> str:
    """Returns an example of a name that others write with zeros or in capitals, such as "1" and "001".

    Args:
        names: those looked for.
        there: those that are there.

    Returns:
        `; '1' is written '001' there`, or "".
    """
    forms = {_plain_name(name): name for name in there}
    alike = next((name for name in sorted(names) if _plain_name(name) in forms), None)
    return "" if alike is None else f"; {alike!r} is written {forms[_plain_name(alike)]!r} there"


def _plain_name(name: str) -> str:
    return re.sub(r"(?<!\d)0+(?=\d)", "", name.casefold())
