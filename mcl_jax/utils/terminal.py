"""Escapes text that would control a terminal or cannot be displayed."""

import contextlib
import logging as std_logging
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any, TextIO

from absl import logging


def printable(text: str, *, keep: str = "\n\t") -> str:
    """Escapes all characters of a text that control a terminal, except those in `keep`.

    Args:
        text: may hold names from untrusted files, with control characters, changes of text direction, or
            surrogates from names that are not UTF-8.
        keep: control characters to leave as they are.
    """
    if text.isprintable():
        return text
    return "".join(c if _is_shown(c) or c in keep else c.encode("unicode_escape").decode() for c in text)


def shortened(line: str, most: int = 1500) -> str:
    """Returns a line, without its middle if it is very long."""
    return line if len(line) <= most else f"{line[: most - 500]} … {line[-500:]}"


def count(number: int, one: str, many: str = "") -> str:
    """Returns a number with its noun: "1 walk", "2 walks"."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def _is_shown(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"  # other spaces


@contextlib.contextmanager
def escaping_output() -> Iterator[None]:
    """Context in which everything that this process prints or logs passes through `printable`."""
    logging.get_absl_handler().addFilter(_escape)  # it keeps the old stderr
    before = sys.stdout, sys.stderr
    # Progress bars use it to return to the start of their line.
    sys.stdout, sys.stderr = _escaping(sys.stdout, "\n\t"), _escaping(sys.stderr, "\n\t\r")
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _escape(record: std_logging.LogRecord) -> bool:
    record.msg, record.args = printable(record.getMessage()), None
    return True


def _escaping(stream: Any, keep: str) -> Any:
    # Without a console there is no stream; and in a nested context the stream escapes already.
    return stream if stream is None or isinstance(stream, _Escaping) else _Escaping(stream, keep)


class _Escaping:
    """A text stream that escapes control characters, and characters that its encoding lacks."""

    def __init__(self, stream: TextIO, keep: str):
        self._stream, self._keep = stream, keep

    def write(self, text: str) -> int:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        shown = printable(text, keep=self._keep)
        return self._stream.write(shown.encode(encoding, "backslashreplace").decode(encoding))

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
