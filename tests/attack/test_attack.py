"""A short version of `make attack`."""

import subprocess
import sys
from pathlib import Path

from targets import TARGETS

ROUNDS = Path(__file__).with_name("rounds.py")

# How many tries take half a minute of CPU time together.
COUNTS = {
    "yaml": 25,
    "partition": 30,
    "protocol": 30,
    "people": 8,
    "packed": 4,
    "safetensors": 4,
    "embeddings": 10,
    "reproduction": 10,
    "sequences": 20,
    "frames": 10,
    "foreign": 10,
    "gallery": 20,
    "records": 3,
    "shards": 3,
    "checkpoint": 2,
    "resume": 2,
    "journal": 5,
    "commands": 3,
    "names": 2,
    "video": 10,
    "playlist": 20,
    "onnx": 3,
    "tflite": 2,
}


# Attacked by `make attack` alone: a library is compiled first, which takes longer than all of these.
LONG_ONLY = {"native"}


def test_harm_is_refused_in_a_line_or_does_nothing():
    targets = [f"{name}={count}" for name, count in COUNTS.items()]
    # One process for all: importing what they need takes longer than most tries.
    line = [sys.executable, ROUNDS, "--seed", "7", "--targets", *targets]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_target_is_tried_here_or_by_the_long_round():
    assert TARGETS.keys() == {*COUNTS, *LONG_ONLY}
