"""Reads the log of a prepared folder, which says whether its preparation has finished.

`prepare/jobs.py` writes the log; this module has the part that readers of the folder need.
"""

import json
from pathlib import Path
from typing import Any

JOB_LOG = "prepared.jsonl"
"""Name of the log. Its first line has the folder's source and whether it is complete; the rest list files."""


def read_header(folder: Path) -> dict[str, Any] | None:
    """Returns the first line of a folder's log; None if there is no log, or it cannot be read."""
    try:
        with (folder / JOB_LOG).open(encoding="utf-8") as file:
            return parse_line(file.readline())
    except (OSError, UnicodeDecodeError):
        return None


def parse_line(line: str) -> dict[str, Any] | None:
    """Returns the object in a line of the log; None if the line is incomplete or damaged."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def is_unfinished(folder: Path) -> bool:
    """Whether a preparation of the folder was started and has not finished."""
    header = read_header(folder)
    return header is not None and not header.get("complete")
