"""Measures how many CPU cores it takes to feed one GPU or eight, with simulated devices that only sleep.

A worker process reads pkl files, samples, augments and packs. The training process copies each batch out of
shared memory and puts it on the devices. Here the devices are CPUs and a step only sleeps, with two steps in
flight as in training. CPU time is summed over all processes; other programs on the machine disturb it less
than wall time.

    make bench-feed
    python benchmarks/feed_gpu.py --workers 1 2 4 --steps 25 35 46
"""

import argparse
import dataclasses
import multiprocessing
import os
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

import cv2
import jax
from feeding import RECIPES, Recipe, build_tree

from mcl_jax.build import build_train_loader
from mcl_jax.config import load_config
from mcl_jax.data.feed.loaders import TrainLoader
from mcl_jax.data.feed.prefetch import prefetched
from mcl_jax.data.sequences import select
from mcl_jax.data.stores.tree import PklSource, scan_tree
from mcl_jax.runtime.mesh import data_mesh, put_rows

STEPS_IN_FLIGHT = 2
WARM_UP = 4
# Numbers of people and lengths as in the datasets; batches and augmentation come from the config.
DATA = {
    "casiab_mcl": RECIPES["casiab_mcl"],
    "gait3d_mcl": dataclasses.replace(RECIPES["gait3d_deepgaitv2_interval"], people=3_000),
}


@dataclasses.dataclass
class Measured:
    """Mean times of one batch, in seconds, and the share of time that the device was idle."""

    batches: int = 0
    wall: float = 0.0
    own_cpu: float = 0.0
    workers_cpu: float = 0.0
    idle: float = 0.0

    @property
    def cpu(self) -> float:
        return self.own_cpu + self.workers_cpu


def cpu_of_children() -> float:
    """Returns the CPU seconds of the worker processes."""
    ticks = 0
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def feed(loader: TrainLoader, workers: int, step: float, seconds: float) -> Measured:
    """Feeds a device that sleeps `step` seconds per batch (0: not at all), for some seconds."""
    mesh = data_mesh(jax.devices()[:1])
    measured = Measured()
    with prefetched(loader, range(1_000_000), workers, then=lambda batch: put_rows(batch, mesh)) as batches:
        for _ in range(WARM_UP + 3 * workers):  # includes batches that the workers made ahead
            next(batches)
        own, others, start = time.process_time(), cpu_of_children(), time.perf_counter()
        free, ends = start, deque[float]()
        while time.perf_counter() < start + seconds:
            next(batches)
            now = time.perf_counter()
            measured.idle += max(0.0, now - free)
            free = max(free, now) + step
            ends.append(free)
            measured.batches += 1
            if len(ends) > STEPS_IN_FLIGHT:
                time.sleep(max(0.0, ends.popleft() - time.perf_counter()))
        elapsed = time.perf_counter() - start
        measured.wall = elapsed / measured.batches
        measured.own_cpu = (time.process_time() - own) / measured.batches
        measured.workers_cpu = (cpu_of_children() - others) / measured.batches
        measured.idle /= elapsed
    return measured


def loader_of(name: str, recipe: Recipe, root: Path, subjects: int, sequences: int) -> TrainLoader:
    build_tree(root, recipe, subjects, sequences)
    found = scan_tree(root)
    split = select(found, sorted({s.subject for s in found}), "training", PklSource())
    return build_train_loader(load_config(name), split)


def report(name: str, loader: TrainLoader, args: argparse.Namespace) -> None:
    batch: Any = loader(0)
    megabytes = sum(array.nbytes for array in batch.values()) / 1e6
    rows = "×".join(map(str, batch["frames"].shape[:2]))
    frames = (batch["segment_ids"] >= 0).sum()
    print(f"\n{name}: rows × slots {rows}, {frames} frames, {megabytes:.1f} MB a batch")
    print("as fast as it goes      ms a batch   CPU ms: all   of it the training process")
    costs = []
    for workers in args.workers:
        found = feed(loader, workers, 0.0, args.seconds)
        costs.append(found)
        line = f"{found.wall * 1e3:>12.1f}{found.cpu * 1e3:>14.1f}{found.own_cpu * 1e3:>15.1f}"
        print(f"  {workers} workers{'':<12}{line}", flush=True)
    least = min(costs, key=lambda cost: cost.cpu)
    for step in args.steps:
        cores = least.cpu * 1e3 / step
        print(f"a step of {step:g} ms: {cores:.1f} cores for one GPU, {8 * cores:.0f} for eight", end="")
        found = feed(loader, args.workers[-1], step / 1e3, args.seconds)
        print(
            f"; {megabytes / step:.2f} GB/s to each; with {args.workers[-1]} workers here a batch takes "
            f"{found.wall * 1e3:.1f} ms, the device waits {found.idle:.0%} of the time",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipes", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2], help="loader processes (1 2)")
    parser.add_argument("--steps", nargs="+", type=float, default=[25, 35, 46], help="ms a step (25 35 46)")
    parser.add_argument("--subjects", type=int, default=64)
    parser.add_argument("--sequences", type=int, default=16, help="sequences of each subject (16)")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of each measurement (6)")
    args = parser.parse_args()
    cv2.setNumThreads(0)  # the loader processes are the parallelism
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load {load:.1f} before the start", end="")
    print(" (not quiet: read CPU ms, not the clock)" if load > 0.5 else "")
    for name in args.recipes:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder, "tree")
            report(name, loader_of(name, DATA[name], root, args.subjects, args.sequences), args)


if __name__ == "__main__":
    main()
