"""Names of remote files: `hf://OWNER/REPO/PATH[@REVISION]`, and web addresses."""

import dataclasses
import os
import re
import urllib.parse
from pathlib import PurePosixPath

from mcl_jax.errors import ConfigError

HUB = "https://huggingface.co"
SCHEME = "hf://"
MODEL_FILE = "model.safetensors"
"""Name of the file with the whole model, in a folder or repository of a model."""

_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}"
_HUB_NAME = re.compile(rf"hf://({_NAME}/{_NAME})(?:/([^@]+?))?/?(?:@([\w./-]{{1,200}}))?")
_HUB_PAGE = re.compile(rf"/({_NAME}/{_NAME})/(?:resolve|blob)/([^/]+)/(.+)")
_HERE = ("localhost", "127.0.0.1", "::1")


@dataclasses.dataclass(frozen=True)
class HubFile:
    """A file in a repository on the Hugging Face Hub.

    Attributes:
        repository: OWNER/REPO.
        path: path of the file; "" for the whole folder of a model, as written by `Gait.save_pretrained`.
        revision: branch, tag or commit; "" for the newest.
    """

    repository: str
    path: str
    revision: str = ""

    def __str__(self) -> str:
        path = f"/{self.path}" if self.path else ""
        return f"{SCHEME}{self.repository}{path}{'@' * bool(self.revision)}{self.revision}"

    @property
    def address(self) -> str:
        """Address for a browser."""
        revision = urllib.parse.quote(self.revision or "main", safe="")
        kind = "resolve" if self.path else "tree"
        return f"{endpoint()}/{self.repository}/{kind}/{revision}/{urllib.parse.quote(self.path)}"


@dataclasses.dataclass(frozen=True)
class WebFile:
    """A file at a web address, which may hold a token or a password."""

    address: str

    def __str__(self) -> str:
        """Returns the address without what may be secret, for logs and records."""
        parts = urllib.parse.urlsplit(self.address)
        return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    @property
    def name(self) -> str:
        """Last part of the path, with unusual characters replaced."""
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.address).path)
        return re.sub(r"[^\w.-]", "_", PurePosixPath(path).name)[-100:].lstrip(".") or "file"


def endpoint() -> str:
    """Returns the address of the Hub, or of its mirror in HF_ENDPOINT."""
    return (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")


def is_elsewhere(name: object) -> bool:
    """Returns whether a name has the form of a remote file's name."""
    return isinstance(name, str) and "://" in name


def parse_reference(name: str) -> HubFile | WebFile:
    """Returns the remote file with this name.

    Args:
        name: `hf://…`, or a web address; a file's page on the Hub stands for the file.

    Raises:
        ConfigError: if it is neither.
    """
    if name.startswith(SCHEME):
        match = _HUB_NAME.fullmatch(name)
        if match is None or not _is_inside(match[2] or "") or ".." in (match[3] or ""):
            raise ConfigError(f"{name}: expected hf://OWNER/REPO/PATH or hf://OWNER/REPO/PATH@REVISION")
        return HubFile(match[1], match[2] or "", match[3] or "")
    try:
        parts = urllib.parse.urlsplit(name)
        host = parts.hostname
    except ValueError:
        host = None
    if not host or parts.scheme not in ("https", "http"):
        raise ConfigError(f"{name}: not an address of a model; give hf://OWNER/REPO/PATH, or https://…")
    if any(name.startswith(f"{hub}/") for hub in (HUB, endpoint())):
        page = _HUB_PAGE.fullmatch(parts.path)
        if page is not None and _is_inside(path := urllib.parse.unquote(page[3])):
            return HubFile(page[1], path, "" if page[2] == "main" else urllib.parse.unquote(page[2]))
    if parts.scheme == "http" and host not in _HERE:
        raise ConfigError(f"{name}: http is not secure against changes on the way; give its https address")
    return WebFile(name)


def _is_inside(path: str) -> bool:
    """Returns whether a path in a repository stays in it."""
    return path.isprintable() and not {"", ".", ".."} & set(path.split("/")) if path else True
