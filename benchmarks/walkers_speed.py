"""Measures how many sequences of 60 synthetic frames are written per second, on all cores.

    python benchmarks/walkers_speed.py

Process start-up is subtracted: two runs of different lengths both include it.
"""

import os
import tempfile
import time
from pathlib import Path

from mcl_jax.walkers import write_walkers

SMALL, LARGE = 1, 11  # subjects; 110 sequences each


def seconds(root: Path, subjects: int, workers: int) -> tuple[int, float]:
    start = time.perf_counter()
    written = write_walkers(root, subjects=subjects, test_subjects=0, workers=workers)
    return written, time.perf_counter() - start


def main() -> None:
    workers = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        few, short = seconds(Path(folder) / "small", SMALL, workers)
        many, long = seconds(Path(folder) / "large", LARGE, workers)
    rate = (many - few) / (long - short)
    print(f"{rate:.0f} sequences of 60 frames a second on {workers} cores (target: 100)")


if __name__ == "__main__":
    main()
