"""A short version of `make faults`: a run killed during a save ends like an undisturbed one."""

import json
import os
import subprocess
import sys
from pathlib import Path

HARNESS = Path(__file__).parent / "harness.py"


def test_a_killed_run_ends_like_one_never_killed(tmp_path):
    short = ["--times", "1", "--steps", "12", "--test-every", "0", "--aims", "a save"]
    line = [sys.executable, HARNESS, "kill", tmp_path, *short]
    xla = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=1"  # as without the tests' flags
    environment = os.environ | {"XLA_FLAGS": xla}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    results = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [r["wrong"] for r in results if "fault" in r] == [""]
    ends = [r["identical"] for r in results if "identical" in r]
    assert ends
    assert all(ends)
