"""A short version of `make attack`."""

import subprocess
import sys
from pathlib import Path

import pytest
from targets import TARGETS

ROUNDS = Path(__file__).with_name("rounds.py")

# How many tries take a few seconds.
COUNTS = {
    "yaml": 25,
    "partition": 30,
    "protocol": 30,
    "people": 8,
    "packed": 4,
    "embeddings": 10,
    "checkpoint": 3,
    "journal": 5,
    "video": 10,
    "playlist": 20,
    "onnx": 4,
    "tflite": 4,
}

# Attacked by `make attack` alone until what they attack has digests.
WAITING = ("resume", "gallery", "records", "shards", "native", "commands", "names")


@pytest.mark.parametrize("target", COUNTS)
def test_harm_is_refused_in_a_line_or_does_nothing(target):
    line = [sys.executable, ROUNDS, "--targets", target, "--count", str(COUNTS[target]), "--seed", "7"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_target_is_tried_here_or_waits():
    assert TARGETS.keys() == {*COUNTS, *WAITING}
