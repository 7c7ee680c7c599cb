"""SHA-256 digests of JSON, arrays and files, to detect damaged files.

They find damaged and mixed-up files. They do not stop an attacker: whoever can write a file can also write
its digest.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

DIGEST_KEY = "sha256"
"""Key of a sealed JSON object that holds the digest of all its other keys."""

SHORT = 12
"""Number of digits of a digest that are shown to people."""

_HEXADECIMAL = re.compile(r"[0-9a-f]{64}")


class DigestError(ValueError):
    """A file has changed since it was written."""


def file_digest(path: Path) -> str:
    """Returns SHA-256 of a file's bytes.

    Raises:
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical(content: Any) -> bytes:
    """Returns plain values as JSON that is the same for equal values: sorted, ASCII, without spaces.

    Raises:
        ValueError: if a number is not finite, which JSON cannot say.
    """
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a JSON object with the digest of its content added.

    Args:
        content: plain values; `json.dumps` writes what is returned.

    Raises:
        ValueError: if a number is not finite.
    """
    # As JSON stores it: tuples become lists, and keys become text.
    plain = json.loads(canonical(content))
    return {**content, DIGEST_KEY: hashlib.sha256(canonical(plain)).hexdigest()}


def check_seal(content: Mapping[str, Any]) -> bool:
    """Compares a JSON object with the digest in it.

    Args:
        content: the object as read from the file.

    Returns:
        Whether there is a digest; files of earlier versions have none.

    Raises:
        DigestError: if the content has changed since it was sealed.
    """
    rest = {key: value for key, value in content.items() if key != DIGEST_KEY}
    if len(rest) == len(content):
        # Otherwise a file with a damaged key would look like one of an earlier version.
        if any(isinstance(value, str) and _HEXADECIMAL.fullmatch(value) for value in rest.values()):
            raise DigestError("its digest has another name")
        return False
    try:
        found = hashlib.sha256(canonical(rest)).hexdigest()
    except ValueError:
        found = ""
    if found != content[DIGEST_KEY]:
        raise DigestError("its content does not match its digest")
    return True


def hash_arrays(digest: "hashlib._Hash", arrays: Mapping[str, Any]) -> None:
    """Adds arrays to a digest in the order of their names: name, type, shape and bytes of each."""
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)  # without a copy
