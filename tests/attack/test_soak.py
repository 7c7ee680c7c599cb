"""A very short soak test, and a check that it detects growth."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from soak import grown

SOAK = Path(__file__).with_name("soak.py")


def test_a_short_run_with_restarts_leaks_no_descriptors_threads_or_files(tmp_path):
    """In a process of its own: what other tests have left here may end, or be opened, meanwhile."""
    # What a round leaks once is two more after the last of four rounds than after the second.
    short = ["--steps", "16", "--rounds", "4", "--save_every", "1", "--workers", "0"]
    xla = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=1"  # as without the tests' flags
    line, environment = [sys.executable, SOAK, tmp_path, *short], os.environ | {"XLA_FLAGS": xla}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert (tmp_path / "figures.json").exists(), done.stdout + done.stderr
    found = json.loads((tmp_path / "figures.json").read_text())
    assert len(found) == 4
    # So soon memory still rises to what the process will need.
    assert not [line for line in grown(found, rate=False) if not line.startswith("MB")], found


@pytest.mark.parametrize("name", ["MB", "descriptors", "threads", "files", "steps/s"])
def test_growing_figures_are_named(name):
    flat = {"MB": 400.0, "descriptors": 20, "threads": 4, "files": 60, "steps/s": 10.0}
    found = [
        flat | {name: flat[name] * (1 + 0.1 * i if name != "steps/s" else 1 - 0.02 * i)} for i in range(16)
    ]
    assert grown([flat] * 16, rate=True) == []
    assert [line.split()[0] for line in grown(found, rate=True)] == [name]
