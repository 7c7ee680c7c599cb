"""SHA-256 digests of JSON, arrays and files, by which a damaged file is noticed.

They find damage and mixed-up files. They keep nobody out: who may write a file can write its digest, too.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

DIGEST_KEY = "sha256"
"""Key of a sealed JSON object that holds the digest of all its other keys."""

SHORT = 12
"""Digits of a digest where people read it."""

_HEXADECIMAL = re.compile(r"[0-9a-f]{64}")


class DigestError(ValueError):
    """A file has changed since it was written."""


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
    # As a reader will find it: tuples are lists then, and all keys texts.
    plain = json.loads(canonical(content))
    return {**content, DIGEST_KEY: hashlib.sha256(canonical(plain)).hexdigest()}


def check_seal(content: Mapping[str, Any]) -> bool:
    """Compares a JSON object with the digest in it.

    Args:
        content: as it was read.

    Returns:
        Whether there is a digest; files of earlier versions have none.

    Raises:
        DigestError: if the content is not what was sealed.
    """
    rest = {key: value for key, value in content.items() if key != DIGEST_KEY}
    if len(rest) == len(content):
        # A damaged key would otherwise pass for a file of an earlier version.
        if any(isinstance(value, str) and _HEXADECIMAL.fullmatch(value) for value in rest.values()):
            raise DigestError("its digest has another name")
        return False
    try:
        found = hashlib.sha256(canonical(rest)).hexdigest()
    except ValueError:
        found = ""
    if found != content[DIGEST_KEY]:
        raise DigestError("its content does not fit its digest")
    return True


def hash_arrays(digest: "hashlib._Hash", arrays: Mapping[str, Any]) -> None:
    """Feeds a digest with arrays in the order of their names: name, type, shape and bytes of each."""
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)  # without a copy
