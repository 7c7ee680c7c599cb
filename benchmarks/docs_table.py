"""Writes a measured table into a page of the docs."""

from pathlib import Path


def write_between(page: Path, begin: str, finish: str, text: str) -> None:
    """Replaces the text between two markers of a page.

    Raises:
        SystemExit: if the page lacks a marker; it is left as it is.
    """
    before, found, rest = page.read_text().partition(begin)
    _, end, after = rest.partition(finish)
    if not found or not end:
        raise SystemExit(f"{page}: lacks the marks {begin} and {finish}")
    page.write_text(f"{before}{begin}{text}{finish}{after}")
