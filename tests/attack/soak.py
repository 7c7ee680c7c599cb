"""Soak test: a long run in which memory, open files, threads, written files and step time must not grow.

    python tests/attack/soak.py FOLDER --steps 20000

trains a tiny model on synthetic people in rounds. Each round resumes the run, so that loaders, loggers and
checkpoints are opened again in the same process, saves and tests on the way, and prints one line of figures.
With `--hosts 2`, two processes on this machine run every round instead; they end with it, so only files and
the rate are checked.

The first quarter of the rounds is a warm-up. A figure has not grown if its median over the last quarter is at
most 2 % above that over the first quarter after the warm-up; a count may grow by one. With `--rate`, the rate
is checked in the same way; by default not, because the machine may do other work. The exit code is 1 if
something grew.

"MB" is the memory in use: before measuring, glibc returns free memory, much of which mcl_jax lets it keep for
the next step, in changing pieces. TensorStore keeps memory at each save, and each time it reads a
checkpoint's description (docs/reliability.md, "Long runs"). "MB", which is judged, excludes both; "MB in
all", measured before, includes them.
"""

import argparse
import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import mcl_jax
from mcl_jax.walkers import write_walkers

_ALLOWED = 1.02
_IN_ALL = "MB in all"
_MB_A_SAVE, _MB_A_START = 0.12, 3.4  # that TensorStore 0.1.86 keeps, for a state of a hundred arrays
_COUNTS = ("descriptors", "threads", "files")  # small whole numbers, of which one more is over 2 %


def main() -> None:
    """Soaks; the exit code is 1 where something grew."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="new, for the people and the run")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--save_every", type=int, default=50)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--hosts", type=int, default=1)
    parser.add_argument("--rate", action="store_true", help="a falling rate is a failure, too")
    arguments = parser.parse_args()
    grown = soak(**vars(arguments))
    print("flat" if not grown else "grew: " + "; ".join(grown))
    sys.exit(bool(grown))


def soak(
    folder: Path,
    *,
    steps: int,
    rounds: int,
    save_every: int,
    workers: int = 0,
    hosts: int = 1,
    rate: bool = False,
) -> list[str]:
    """Trains in rounds, and returns a line for each figure that grew.

    Args:
        folder: gets the people and the run.
        steps: in all.
        rounds: how often the run is resumed.
        save_every: steps from one save to the next; a round tests once on its way.
        workers: processes of a loader.
        hosts: more than one run every round in processes of their own.
        rate: whether a falling rate is a failure.
    """
    people = folder / "people"
    views, conditions = ("036", "090"), ("nm-01", "nm-05")
    # Few walks: a round has two tests, of which nothing is wanted but that they are made.
    write_walkers(
        people, subjects=6, test_subjects=3, views=views, conditions=conditions, frames=6, workers=0
    )
    every = max(steps // rounds, 1)
    found: list[dict[str, float]] = []
    for last in range(every, steps + 1, every):
        overrides = _overrides(people, last, every, save_every, workers)
        began = time.monotonic()
        _round(folder / "run", overrides, hosts)
        kept = _MB_A_START * last / every + _MB_A_SAVE * last / save_every
        found.append(
            _figures(folder / "run", every / (time.monotonic() - began), kept if hosts == 1 else 0.0)
        )
        print(f"step {last:6}  " + "  ".join(f"{k} {v:.5g}" for k, v in found[-1].items()), flush=True)
    (folder / "figures.json").write_text(json.dumps(found))
    return grown(found, rate=rate)


def grown(found: list[dict[str, float]], *, rate: bool) -> list[str]:
    """Returns a line for each figure that is not flat, as the top of this file says."""
    counted = found[len(found) // 4 :]
    quarter = max(len(counted) // 4, 1)
    lines = []
    for name in counted[0]:
        if name == _IN_ALL or (name == "steps/s" and not rate):
            continue
        first, last = (
            statistics.median(figures[name] for figures in some)
            for some in (counted[:quarter], counted[-quarter:])
        )
        worse = first / last if name == "steps/s" else last / first
        if worse > _ALLOWED and not (name in _COUNTS and last - first <= 1):
            lines.append(f"{name} from {first:.5g} to {last:.5g}")
    return lines


def _overrides(people: Path, last: int, every: int, save_every: int, workers: int) -> dict[str, object]:
    return {
        "data.root": str(people),
        "data.partition": str(people.parent / f"{people.name}_partition.json"),
        "data.workers": workers,
        "data.sampling.frames": 2,
        "model.channels": (2, 2, 3, 3),
        "model.embed_dim": 3,
        "train.batch": (2, 2),
        "train.steps": last,
        "train.log_every": max(every // 10, 1),
        "train.save_every": save_every,
        # The test on the way replaces that of the round before: one folder more a round is meant to be there.
        "train.test_every": max(last - every // 2, 1),
        "schedule.milestones": (10**6,),
        "optimizer.lr": 1e-4,
    }


def _round(workdir: Path, overrides: dict[str, object], hosts: int) -> None:
    if hosts == 1:
        mcl_jax.train("walkers_mcl", workdir, overrides=overrides)
        return
    line = [sys.executable, "-m", "mcl_jax.main", "--config=walkers_mcl", f"--workdir={workdir}"]
    keys = [f"--config.{key}={value}".replace(" ", "") for key, value in overrides.items()]
    subprocess.run([*line, *keys, f"--hosts=local:{hosts}"], check=True)


def _megabytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _figures(workdir: Path, rate: float, kept_by_tensorstore: float) -> dict[str, float]:
    gc.collect()
    in_all = _megabytes()
    ctypes.CDLL(None).malloc_trim(0)
    # A log of TensorBoard's is added by every round, a folder by every test.
    kept = [p for p in workdir.rglob("*") if "tensorboard" not in p.parts and not p.match("test-*/*")]
    return {
        _IN_ALL: in_all,
        "MB": _megabytes() - kept_by_tensorstore,
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "threads": threading.active_count(),
        "files": sum(p.is_file() for p in kept),
        "steps/s": rate,
    }


if __name__ == "__main__":
    main()
