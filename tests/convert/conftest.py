"""Toy models as fixtures."""

import pytest
from toys import TOYS

# They take seconds, and differ from another toy in a number or in a part that a third toy has.
SLOW = ("foundationgait", "gaitset_bins", "gaitgl_necks", "gaitbase_plain")


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in TOYS])
def toy(request):
    return TOYS[request.param]


@pytest.fixture
def gaitbase():
    return TOYS["gaitbase"]
