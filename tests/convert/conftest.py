"""Toy models as fixtures."""

import pytest
from toys import TOYS


@pytest.fixture(params=TOYS)
def toy(request):
    return TOYS[request.param]


@pytest.fixture
def gaitbase():
    return TOYS["gaitbase"]
