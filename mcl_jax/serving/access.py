"""The key of the service: where it comes from, and who needs it."""

import hmac
import ipaddress
import os
from pathlib import Path

from mcl_jax.errors import ConfigError
from mcl_jax.utils.files import read_bounded

KEY_VARIABLE = "MCL_JAX_KEY"
_SHORTEST, _LARGEST_FILE = 16, 4096
_MAKE_ONE = "make one with: openssl rand -hex 32"


def read_key(file: str | None) -> str | None:
    """Returns the key from a file or, without one, from the environment; None if there is none.

    Args:
        file: path of a file with the key and nothing else; None for the environment variable.

    Raises:
        ConfigError: if the file cannot be read, or the key is short or has characters that do not fit into a
            header.
    """
    if file is None:
        source, key = KEY_VARIABLE, os.environ.get(KEY_VARIABLE, "")
        if not key:
            return None
    else:
        source = file
        try:
            key = read_bounded(Path(file), _LARGEST_FILE).decode("ascii").strip()
        except OSError as error:
            raise ConfigError(f"{file}: the key cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"{file}: the key is not plain text; {_MAKE_ONE}") from None
    if len(key) < _SHORTEST or not all("!" <= letter <= "~" for letter in key):
        raise ConfigError(
            f"{source}: a key has at least {_SHORTEST} letters, digits or signs, without spaces; {_MAKE_ONE}"
        )
    return key


def is_loopback(address: str) -> bool:
    """Whether only programs on this machine reach an address."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def fits(authorization: str, key: str) -> bool:
    """Whether a header `Authorization` has the key, in a time that tells nothing about the key."""
    scheme, _, given = authorization.partition(" ")
    right = hmac.compare_digest(given.strip().encode(), key.encode())
    return right and scheme.lower() == "bearer"
