"""Downloads files, from the Hugging Face Hub with its own library, from elsewhere with Python's."""

import contextlib
import hashlib
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from absl import logging

from mcl_jax.errors import CheckpointError, ConfigError
from mcl_jax.hub.reference import HubFile, WebFile, endpoint, parse_reference
from mcl_jax.utils.extras import require_extra
from mcl_jax.utils.files import user_cache
from mcl_jax.utils.resource_limits import resource_limit
from mcl_jax.utils.terminal import printable

_MAX_BYTES = 2**34  # the largest published checkpoint has 0.8 GB
_PIECE = 2**20
_TIMEOUT = 30.0  # seconds without a byte


def hand_place(remote: HubFile | WebFile) -> Path:
    """Returns the path at which a user can place a file on a machine without network."""
    folder = user_cache() / "hub" / "by-hand"
    if isinstance(remote, HubFile):
        revision = f"@{remote.revision.replace('/', '_')}" if remote.revision else ""
        return folder / f"{remote.repository}{revision}" / remote.path
    return folder / "web" / _digest_of(remote.address) / remote.name


def cached(remote: HubFile | WebFile) -> Path | None:
    """Returns the path of an earlier download; None if there is none. It needs no network."""
    if isinstance(remote, WebFile):
        place = _web_place(remote)
        return place if place.is_file() else None
    try:
        from huggingface_hub import try_to_load_from_cache  # of the extra `hub`
    except ImportError:
        return None
    with contextlib.suppress(OSError, ValueError):
        found = try_to_load_from_cache(remote.repository, remote.path, revision=remote.revision or None)
        if isinstance(found, str):
            return Path(found)
    return None


def download(remote: HubFile | WebFile) -> Path:
    """Downloads a file if there is no local copy; returns the path.

    Raises:
        CheckpointError: if it fails; one line with reason and remedy.
        MissingExtraError: if the file is on the Hub, and the extra `hub` is not installed.
    """
    if isinstance(remote, HubFile):
        require_extra("hub", str(remote))
        with explained(remote):
            return _from_hub(remote)
    place = _web_place(remote)
    if not place.is_file():
        with explained(remote):
            _from_web(remote, place)
    return place


def _from_hub(remote: HubFile) -> Path:
    from huggingface_hub import hf_hub_download  # of the extra `hub`

    if cached(remote) is None:
        logging.info("fetching %s from %s", remote, remote.address)
    revision = remote.revision or None
    return Path(hf_hub_download(remote.repository, remote.path, revision=revision, endpoint=endpoint()))


def _from_web(remote: WebFile, place: Path) -> None:
    """Downloads a file from the web, completely or not at all.

    Raises:
        OSError: from the network or the disk.
        CheckpointError: if the number of bytes differs from the announced one.
    """
    logging.info("fetching %s", remote)
    request = urllib.request.Request(remote.address, headers={"User-Agent": "mcl_jax"})
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_name(f".{place.name}.{secrets.token_hex(4)}.tmp")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response, temporary.open("wb") as file:
            parse_reference(response.url)  # a redirect may not leave https
            announced = int(response.headers.get("Content-Length") or -1)
            if max(announced, 0) > _MAX_BYTES:
                raise CheckpointError(f"{remote}: has {announced:,} bytes, more than any model")
            _copy(response, file, announced, remote)
        temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)


def _copy(response: Any, file: Any, announced: int, remote: WebFile) -> None:
    written = 0
    while piece := response.read(_PIECE):
        file.write(piece)
        written += len(piece)
        if written > _MAX_BYTES:
            raise CheckpointError(f"{remote}: has more bytes than any model")
    if announced >= 0 and written != announced:
        raise CheckpointError(
            f"{remote}: received only {written:,} of {announced:,} bytes; run the same command to try again"
        )


@contextlib.contextmanager
def explained(remote: HubFile | WebFile) -> Iterator[None]:
    """Context that turns errors of network, server and disk into one line about a file.

    Raises:
        CheckpointError: with that line.
    """
    try:
        yield
    except (CheckpointError, ConfigError):
        raise
    # Errors of an HTTP client depend on its version; each means that the download failed.
    except Exception as error:
        raise CheckpointError(f"{remote}: {_reason(error, remote)}") from error


def _reason(error: Exception, remote: HubFile | WebFile) -> str:
    limit = resource_limit(error)
    if limit is not None:
        return f"cannot be written: {limit.what}; {limit.remedy}, or move the cache (HF_HOME, XDG_CACHE_HOME)"
    reason = _web_reason(error, remote) if isinstance(remote, WebFile) else _hub_reason(error, remote)
    if reason:
        return reason
    text = printable(str(error).split("\n", 1)[0]).strip()[:300] or type(error).__name__
    return f"the download failed ({text}); run the same command to try again"


def _no_network(remote: HubFile | WebFile) -> str:
    return (
        f"cannot be reached, and there is no local copy: download {remote.address} on another machine, and "
        f"put it at {hand_place(remote)}"
    )


def _web_reason(error: Exception, remote: WebFile) -> str:
    if isinstance(error, urllib.error.HTTPError):
        login = error.code in (401, 403)
        remedy = "download it in a browser and give its path" if login else "check the address"
        return f"the server answers {error.code} {printable(str(error.reason))[:100]}; {remedy}"
    if isinstance(error, urllib.error.URLError | TimeoutError | ConnectionRefusedError):
        return _no_network(remote)
    return ""


def _hub_reason(error: Exception, remote: HubFile) -> str:
    from huggingface_hub import errors  # of the extra `hub`

    status = getattr(getattr(error, "response", None), "status_code", None)
    page = f"{remote.address.split(f'/{remote.repository}/')[0]}/{remote.repository}"
    if isinstance(error, errors.GatedRepoError):
        return f"is behind a form: ask for access at {page}, then log in with `hf auth login`"
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403):
        return f"there is no {page}, or it is private: check the name, or log in with `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"there is no revision {remote.revision!r}; {page} lists its branches and commits"
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        return _no_network(remote)
    if isinstance(error, errors.EntryNotFoundError):
        return f"there is no file {remote.path!r}; {page} lists its files"
    if status is not None:
        return f"the server answers {status}; try again later"
    return ""


def _digest_of(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()[:32]


def _web_place(remote: WebFile) -> Path:
    return user_cache() / "hub" / "web" / _digest_of(remote.address) / remote.name
