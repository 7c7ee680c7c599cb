"""Toy models as fixtures."""

import pytest
from toys import TOYS

# It takes seconds, and the stages of DeepGaitV2, which it has, are in another toy.
SLOW = ("foundationgait",)


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in TOYS])
def toy(request):
    return TOYS[request.param]


@pytest.fixture
def gaitbase():
    return TOYS["gaitbase"]
