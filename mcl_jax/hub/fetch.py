"""Fetches a remote model, and compares it with its first download.

This module does not open fetched files; the readers in `mcl_jax.convert` do, and execute nothing from them.
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
    """Returns the published checkpoint with this name; None if there is none, or a local file has it."""
    if not isinstance(name, str) or name not in PUBLISHED or Path(name).exists():
        return None
    return PUBLISHED[name]


def local_copy(name: str | Path) -> Path:
    """Returns the local path of a model, and fetches it first if it is remote.

    Args:
        name: a path, which is returned unchanged; the name of a published checkpoint (a file or folder with
            this name takes precedence); `hf://OWNER/REPO/PATH[@REVISION]`, where PATH may be omitted for a
            model uploaded by `Gait.push_to_hub`; or a web address.

    Raises:
        ConfigError: if the name has none of these forms.
        CheckpointError: if the file cannot be fetched, or differs from its first download.
        MissingExtraError: if the extra `hub` is not installed, and there is no local copy.
    """
    entry = published_of(name)
    if entry is not None:
        return fetch(entry.file, entry.sha256)
    return fetch(parse_reference(str(name))) if is_elsewhere(name) else Path(name)


def public_name(name: str) -> str:
    """Returns the name of a model for logs and records: a web address without what may be secret."""
    return str(parse_reference(name)) if is_elsewhere(name) else name


def fetch(remote: HubFile | WebFile, sha256: str = "") -> Path:
    """Returns the path of a local copy of a file; downloads it if there is none.

    Args:
        remote: the file; a whole repository means its `MODEL_FILE`.
        sha256: the published digest; "" if unknown.

    Raises:
        CheckpointError: see `local_copy`.
    """
    if isinstance(remote, HubFile) and not remote.path:
        remote = dataclasses.replace(remote, path=MODEL_FILE)
    place = hand_place(remote)
    path = place if place.is_file() else download(remote)
    _compare(remote, path, sha256)
    return path


def is_here(remote: HubFile | WebFile) -> bool:
    """Returns whether there is a local copy of a file."""
    return hand_place(remote).is_file() or cached(remote) is not None


def _compare(remote: HubFile | WebFile, path: Path, sha256: str) -> None:
    """Compares a file with the published digest and the stored digest of its first download.

    Raises:
        CheckpointError: if it differs.
    """
    try:
        found = file_digest(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from None
    if sha256 and found != sha256:
        raise CheckpointError(
            f"{remote}: is not the published file: its SHA-256 is {found[:SHORT]}…, not "
            f"{sha256[:SHORT]}… ({path}); if its authors have replaced it, give the name {remote}"
        )
    record = _record(remote)
    first = _first_digest(record)
    if first and found != first:
        raise CheckpointError(
            f"{remote}: has changed since its first download: its SHA-256 was {first[:SHORT]}… and is "
            f"{found[:SHORT]}… ({path}); to use the changed file, give this path"
        )
    if not first:
        _keep(record, {"source": str(remote), "file_sha256": found, "bytes": path.stat().st_size})
        logging.info("%s: %s, SHA-256 %s", remote, path, found)


def _keep(record: Path, content: dict[str, Any]) -> None:
    try:
        write_atomically(record, json.dumps(sealed(content), indent=1).encode())
    except UserError as error:
        logging.warning("the digest of the first download is not stored: %s", error)


def _record(remote: HubFile | WebFile) -> Path:
    name = remote.address if isinstance(remote, WebFile) else str(remote)
    return user_cache() / "hub" / "digests" / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"


def _first_digest(record: Path) -> str:
    """Returns the digest of the first download; "" if there was none.

    Raises:
        CheckpointError: if the record is unusable.
    """
    if not record.exists():
        return ""
    try:
        content = json.loads(read_bounded(record, _MAX_RECORD_BYTES))
        check_seal(content)
        return str(content["file_sha256"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, DigestError):
        raise CheckpointError(
            f"{record}: the record of the first download is damaged; move it away to start a new one"
        ) from None
