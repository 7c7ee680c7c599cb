"""A very short soak, and whether it would notice what grows."""

import json

import pytest
from soak import grown, soak


def test_a_short_run_with_restarts_leaks_no_descriptors_threads_or_files(tmp_path):
    soak(tmp_path, steps=32, rounds=8, save_every=1)
    found = json.loads((tmp_path / "figures.json").read_text())
    assert len(found) == 8
    # So soon memory still rises to what the process will need.
    assert not [line for line in grown(found, rate=False) if not line.startswith("MB")]


@pytest.mark.parametrize("name", ["MB", "descriptors", "threads", "files", "steps/s"])
def test_what_grows_is_named(name):
    flat = {"MB": 400.0, "descriptors": 20, "threads": 4, "files": 60, "steps/s": 10.0}
    found = [
        flat | {name: flat[name] * (1 + 0.1 * i if name != "steps/s" else 1 - 0.02 * i)} for i in range(16)
    ]
    assert grown([flat] * 16, rate=True) == []
    assert [line.split()[0] for line in grown(found, rate=True)] == [name]
