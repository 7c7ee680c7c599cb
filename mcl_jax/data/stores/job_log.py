"""Tells whether the command that fills a folder with sequences has finished.

`prepare/jobs.py` writes the log; here is what readers of the folder need to know of it.
"""

import json
from pathlib import Path
from typing import Any

JOB_LOG = "prepared.jsonl"
"""Its first line says what the folder is made from and whether it is complete, the others what is in it."""


def read_header(folder: Path) -> dict[str, Any] | None:
    """Returns the first line of a folder's log, or None if there is no log, or none that can be read."""
    try:
        with (folder / JOB_LOG).open(encoding="utf-8") as file:
            return parse_line(file.readline())
    except (OSError, UnicodeDecodeError):
        return None


def parse_line(line: str) -> dict[str, Any] | None:
    """Returns the object in a line of the log, or None if the line was cut off or damaged."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def is_unfinished(folder: Path) -> bool:
    """Whether a folder was begun to be filled and is not complete."""
    header = read_header(folder)
    return header is not None and not header.get("complete")
