"""The sequences of a pkl tree, remembered from one start to the next.

Listing a tree of a hundred thousand sequences means opening as many folders, minutes on a network disk. A
cache file holds the result with the time of last change of every folder; as long as these hold, it is the
listing.
"""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from absl import logging

from mcl_jax.data.prepare.jobs import is_unfinished
from mcl_jax.data.records import Record, subfolders, walk_tree
from mcl_jax.data.sources import RECORDS_MANIFEST
from mcl_jax.errors import DataError, UserError
from mcl_jax.files import write_atomically

CACHE_NAME = ".mcl_jax_listing.json"
_FORMAT = 1

# Folders changed this shortly before they were listed may change again within the same tick of the file
# system's clock, unnoticed; such a listing is not kept.
_SETTLED_SECONDS = 2.0

# On a network disk a request is a round trip, so that many at once pay; on a local one they only get in each
# other's way. The first few requests tell which it is.
_THREADS = 16
_TRIAL = 1000
_SLOW_SECONDS = 50e-6


def list_tree(root: Path) -> list[Record]:
    """Lists the sequences of a pkl tree as `records.scan_tree` does, from the cache if the tree is unchanged.

    The cache lies in the root or, where that cannot be written, in the user's cache folder; where neither
    can, the tree is listed anew each time. New pixels under an old name are no change: only names are listed.

    Raises:
        DataError: as `records.scan_tree`, or if a preparation of the tree is unfinished.
    """
    if (root / RECORDS_MANIFEST).is_file():
        raise DataError(f"data.root: {str(root)!r} holds records; set --config.data.format=records")
    if is_unfinished(root):
        raise DataError(
            f"data.root: the preparation of {str(root)!r} is not complete; run scripts/prepare_data.py again"
        )
    for path in _cache_paths(root):
        records = _read_cache(path, root)
        if records is not None:
            return records
    started = time.time_ns()
    records, folders = walk_tree(root)
    times = _times(folders)
    if times is not None and max(times) < started - int(_SETTLED_SECONDS * 1e9):
        _write_cache(root, records, folders, times)
    return records


def _cache_paths(root: Path) -> list[Path]:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:32]
    return [root / CACHE_NAME, home / "mcl_jax" / f"listing-{name}.json"]


def _times(folders: Sequence[str]) -> list[int] | None:
    """Returns when the contents of each folder last changed, in ns, or None if one has gone."""
    try:
        start = time.perf_counter()
        trial = [_time(folder) for folder in folders[:_TRIAL]]
        if time.perf_counter() - start < _SLOW_SECONDS * len(trial):
            return trial + [_time(folder) for folder in folders[_TRIAL:]]
        with ThreadPoolExecutor(_THREADS) as pool:
            return trial + list(pool.map(_time, folders[_TRIAL:]))
    except OSError:
        return None


def _time(folder: str) -> int:
    return os.stat(folder).st_mtime_ns  # noqa: PTH116 - a Path takes longer than the call


def _read_cache(path: Path, root: Path) -> list[Record] | None:
    """Returns the records of a cache file that fits the tree, or None."""
    try:
        content = json.loads(path.read_bytes())
        if content["format"] != _FORMAT:
            return None
        # Of the root itself the names are compared: writing the cache there changes its time.
        names = {name for name in content["folders"] if "/" not in name}
        if names != {entry.name for entry in subfolders(root)}:
            return None
        if _times([f"{root}/{name}" for name in content["folders"]]) != content["times"]:
            return None
        return [Record(s, c, v, f"{root}/{s}/{c}/{v}/{file}") for s, c, v, file in content["records"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_cache(root: Path, records: list[Record], folders: list[str], times: list[int]) -> None:
    content: dict[str, Any] = {
        "format": _FORMAT,
        "folders": [Path(folder).relative_to(root).as_posix() for folder in folders],
        "times": times,
        "records": [(r.subject, r.condition, r.view, Path(r.location).name) for r in records],
    }
    encoded = json.dumps(content, separators=(",", ":")).encode()
    for path in _cache_paths(root):
        try:
            return write_atomically(path, encoded)
        except UserError as error:
            logging.info("no listing kept there: %s", error)
