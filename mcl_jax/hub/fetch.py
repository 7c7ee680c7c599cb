"""Brings a model that lies elsewhere to this machine, and compares it with its first download.

Nothing here opens what was fetched: the readers of `mcl_jax.convert` do, which run nothing.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from absl import logging

from mcl_jax.errors import CheckpointError, UserError
from mcl_jax.hub.download import cached, download, hand_place
from mcl_jax.hub.published import PUBLISHED, Published
from mcl_jax.hub.reference import MODEL_FILE, HubFile, WebFile, is_elsewhere, parse_reference
from mcl_jax.utils.digest import SHORT, DigestError, check_seal, file_digest, sealed
from mcl_jax.utils.files import read_bounded, user_cache, write_atomically

_MAX_RECORD_BYTES = 2**16


def published_of(name: object) -> Published | None:
    """Returns the published checkpoint of a name; None for other names, and where a file or folder has it."""
    if not isinstance(name, str) or name not in PUBLISHED or Path(name).exists():
        return None
    return PUBLISHED[name]


def local_copy(name: str | Path) -> Path:
    """Returns where a model lies on this machine; it is fetched if its name says that it lies elsewhere.

    Args:
        name: a path, which is returned as it is; the name of a published checkpoint, where no file or folder
            has that name; `hf://OWNER/REPO/PATH[@REVISION]`, without PATH the model that
            `Gait.push_to_hub` put there; or an address of the web.

    Raises:
        ConfigError: if the name has the form of none of them.
        CheckpointError: if the file cannot be fetched, or is not the one that it was at first.
        MissingExtraError: if the extra `hub` is not installed, and the file is not here already.
    """
    entry = published_of(name)
    if entry is not None:
        return fetch(entry.file, entry.sha256)
    return fetch(parse_reference(str(name))) if is_elsewhere(name) else Path(name)


def fetch(remote: HubFile | WebFile, sha256: str = "") -> Path:
    """Returns where the copy of a file lies, which is downloaded if it is not here already.

    Args:
        remote: the file; of a whole repository `MODEL_FILE` is meant.
        sha256: the digest that it was published with; "" where none is known.

    Raises:
        CheckpointError: as `local_copy`.
    """
    if isinstance(remote, HubFile) and not remote.path:
        remote = dataclasses.replace(remote, path=MODEL_FILE)
    place = hand_place(remote)
    path = place if place.is_file() else download(remote)
    _compare(remote, path, sha256)
    return path


def is_here(remote: HubFile | WebFile) -> bool:
    """Returns whether a file is on this machine already."""
    return hand_place(remote).is_file() or cached(remote) is not None


def _compare(remote: HubFile | WebFile, path: Path, sha256: str) -> None:
    """Compares a file with the published digest and with that of its first download, which is kept.

    Raises:
        CheckpointError: if it is another.
    """
    try:
        found = file_digest(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from None
    if sha256 and found != sha256:
        raise CheckpointError(
            f"{remote}: is not the file that was published: its SHA-256 is {found[:SHORT]}…, not "
            f"{sha256[:SHORT]}… ({path}); if its authors have replaced it, ask for it as {remote}"
        )
    record = _record(remote)
    first = _first_digest(record)
    if first and found != first:
        raise CheckpointError(
            f"{remote}: has changed since its first download: its SHA-256 was {first[:SHORT]}… and is "
            f"{found[:SHORT]}… ({path}); to take it as it is now, give that path"
        )
    if not first:
        _keep(record, {"source": str(remote), "file_sha256": found, "bytes": path.stat().st_size})
        logging.info("%s: %s, SHA-256 %s", remote, path, found)


def _keep(record: Path, content: dict[str, Any]) -> None:
    try:
        write_atomically(record, json.dumps(sealed(content), indent=1).encode())
    except UserError as error:
        logging.warning("the digest of the first download is not kept: %s", error)


def _record(remote: HubFile | WebFile) -> Path:
    return user_cache() / "hub" / "digests" / f"{hashlib.sha256(str(remote).encode()).hexdigest()[:32]}.json"


def _first_digest(record: Path) -> str:
    """Returns the digest of the first download; "" before it.

    Raises:
        CheckpointError: if the record cannot be used.
    """
    if not record.exists():
        return ""
    try:
        content = json.loads(read_bounded(record, _MAX_RECORD_BYTES))
        check_seal(content)
        return str(content["file_sha256"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, DigestError):
        raise CheckpointError(
            f"{record}: the record of a first download is damaged; move it away to begin a new one"
        ) from None
