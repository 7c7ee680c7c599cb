"""A service that the tests of a file share."""

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Any]:
    """A service with small limits and an empty gallery."""
    from running_service import serving  # only where the extra `serve` is installed

    with serving(tmp_path_factory.mktemp("service") / "G") as service:
        yield service
