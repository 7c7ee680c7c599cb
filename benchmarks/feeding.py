"""Measures how many sequences per second PyTorch's usual way and mcl_jax feed to three recipes.

PyTorch gait systems usually look up indices and classes in Python lists. One loader process reads whole
sequences and picks frames one at a time. The training process applies the transforms in float64, for which it
splits a clip into frames and joins them again. Both use the same cores. The figures are medians of rounds in
which all take turns, so that other load on the machine affects all of them.

    taskset -c 0,1 python benchmarks/feeding.py --workers 2
"""

import argparse
import contextlib
import dataclasses
import math
import multiprocessing
import pickle
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mcl_jax.data.datasets import download_of
from mcl_jax.data.feed.loaders import HostShare, TrainLoader
from mcl_jax.data.feed.prefetch import keep_freed_memory, prefetched
from mcl_jax.data.feed.sampling import FrameSampling
from mcl_jax.data.prepare.preparation import prepare_dataset
from mcl_jax.data.sequences import SequenceRef, select
from mcl_jax.data.stores.array_record import open_records
from mcl_jax.data.stores.tree import PklSource, scan_tree
from mcl_jax.walkers import CONDITIONS, VIEWS, render_sequence

PREFETCHED_BATCHES = 2
CASIAB_STEPS = [("cut", 1.0), ("rotate", 0.3), ("erase", 0.3)]
WILD_STEPS = [("perspective", 0.2), ("cut", 1.0), ("flip", 0.2), ("rotate", 0.2)]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a run samples, its number of training people, and the lengths of their sequences."""

    batch: tuple[int, int]
    sampling: FrameSampling
    steps: list[tuple[str, float]]
    people: int
    lengths: tuple[int, int]


RECIPES = {
    "casiab_mcl": Recipe((8, 16), FrameSampling("fixed_unordered", frames=30), CASIAB_STEPS, 74, (80, 100)),
    "grew_mcl": Recipe(
        (32, 4),
        FrameSampling("unfixed_unordered", min_frames=20, max_frames=40),
        WILD_STEPS,
        20_000,
        (80, 140),
    ),
    "gait3d_deepgaitv2_interval": Recipe(
        (32, 4), FrameSampling("fixed_ordered", frames=30, skip=0, max_rate=3), WILD_STEPS, 3_000, (100, 200)
    ),
}


def build_tree(root: Path, recipe: Recipe, subjects: int, sequences: int) -> None:
    """Writes sequences that are cut out of one walk of each subject."""
    rng = np.random.default_rng(0)
    shortest, longest = recipe.lengths
    for subject in range(subjects):
        walk = render_sequence(0, subject, CONDITIONS[0], VIEWS[subject % len(VIEWS)], frames=2 * longest)
        folder = root / class_names(recipe)[subject * (recipe.people // subjects)] / CONDITIONS[0]
        for sequence in range(sequences):
            start, length = rng.integers(longest), rng.integers(shortest, longest + 1)
            path = folder / f"{sequence:03d}" / "sequence.pkl"
            path.parent.mkdir(parents=True)
            path.write_bytes(pickle.dumps(walk[start : start + length], protocol=4))


def class_names(recipe: Recipe) -> list[str]:
    return [f"{number:05d}" for number in range(recipe.people)]


def customary_indices(frames: int, recipe: Recipe) -> list[int]:
    sampling = recipe.sampling
    indices = list(range(frames))
    if sampling.mode == "fixed_ordered":
        rate = random.randint(sampling.min_rate, sampling.max_rate)
        window = (sampling.frames + sampling.skip) * rate - rate + 1
        if frames < window:
            indices = indices * math.ceil(window / frames)
        start = random.choice(list(range(len(indices) - window + 1)))
        candidates = list(range(start, start + window))[::rate]
        chosen = sorted(np.random.choice(candidates, sampling.frames, replace=False))  # noqa: NPY002 - the custom
        return [indices[i] for i in chosen]
    length = sampling.frames
    if sampling.mode == "unfixed_unordered":
        length = random.randint(sampling.min_frames, sampling.max_frames)
    return list(np.random.choice(indices, length, replace=len(indices) < length))  # noqa: NPY002 - the custom


def customary_loader(queue: Any, sequences: list[SequenceRef], recipe: Recipe) -> None:
    """Puts batches into the queue: clips [s, h, w], or one array of frames if lengths vary, and labels."""
    keep_freed_memory()
    classes = class_names(recipe)
    subjects = sorted({s.subject for s in sequences})
    of_subject = {s: [ref for ref in sequences if ref.subject == s] for s in subjects}
    people, each = recipe.batch
    while True:
        chosen = [r for s in random.sample(subjects, people) for r in random.choices(of_subject[s], k=each)]
        sequences = []
        for ref in chosen:
            with Path(ref.location).open("rb") as file:
                sequences.append(pickle.load(file))
        clips = []
        for sequence in sequences:
            clip = []
            for index in customary_indices(len(sequence), recipe):
                clip.append(sequence[index])
            clips.append(np.asarray(clip))
        labels = [classes.index(ref.subject) for ref in chosen]
        queue.put(([np.concatenate(clips)] if recipe.sampling.variable_length else clips, labels))


def frame_by_frame(clip: np.ndarray, warp: Any) -> np.ndarray:
    frames = [warp(single[0]) for single in np.split(clip, len(clip))]
    return np.concatenate([frame[np.newaxis] for frame in frames])


def customary_transform(clip: np.ndarray, steps: list[tuple[str, float]]) -> np.ndarray:
    for name, probability in steps:
        if random.random() >= probability:
            continue
        height, width = clip.shape[1:]
        if name == "cut":
            clip = clip[..., 10:-10] / 255.0
        elif name == "flip":
            clip = clip[:, :, ::-1]
        elif name == "rotate":
            matrix = cv2.getRotationMatrix2D((height // 2, width // 2), random.uniform(-10, 10), 1)
            clip = frame_by_frame(clip, lambda f, m=matrix: cv2.warpAffine(f, m, f.shape[::-1]))
        elif name == "perspective":
            near = [random.randrange(10) for _ in range(4)]
            corners = [(near[0], 0), (54 + near[1], 0), (54 + near[3], 64), (near[2], 64)]
            target = [(0, 0), (width, 0), (width, height), (0, height)]
            matrix = cv2.getPerspectiveTransform(np.float32(corners), np.float32(target))
            clip = frame_by_frame(clip, lambda f, m=matrix: cv2.warpPerspective(f, m, f.shape[::-1]))
        elif name == "erase":
            area, aspect = random.uniform(0.05, 0.2) * height * width, random.uniform(0.3, 1 / 0.3)
            box = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            top, left = random.randrange(height - box[0]), random.randrange(max(1, width - box[1]))
            clip[:, top : top + box[0], left : left + box[1]] = 0
    return clip


@contextlib.contextmanager
def customary_batches(sequences: list[SequenceRef], recipe: Recipe) -> Iterator[Iterator[Any]]:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue(PREFETCHED_BATCHES)
    process = context.Process(target=customary_loader, args=(queue, sequences, recipe), daemon=True)
    process.start()

    def batches() -> Iterator[Any]:
        while True:
            clips, labels = queue.get()
            frames = np.asarray([customary_transform(clip, recipe.steps) for clip in clips])
            yield frames.astype(np.float32), np.asarray(labels)

    try:
        yield batches()
    finally:
        process.terminate()
        process.join()


def our_batches(sequences: list[SequenceRef], source: Any, recipe: Recipe, workers: int) -> Any:
    split = select(sequences, sorted({s.subject for s in sequences}), "training", source)
    loader = TrainLoader(
        split,
        batch=recipe.batch,
        frames=recipe.sampling,
        augmentation=recipe.steps,
        seed=0,
        share=HostShare(),
    )
    return prefetched(loader, range(1_000_000), workers)


def rate(batches: Iterator[Any], sequences: int, seconds: float) -> float:
    """Returns sequences per second, after the buffers filled at the start are used up."""
    deadline = time.perf_counter() + seconds / 3
    while time.perf_counter() < deadline:
        next(batches)
    start = time.perf_counter()
    count = 0
    while time.perf_counter() < start + seconds:
        next(batches)
        count += 1
    return count * sequences / (time.perf_counter() - start)


def measure(folder: Path, recipe: Recipe, args: argparse.Namespace) -> list[float]:
    """Returns sequences per second: the usual way, mcl_jax from the tree, mcl_jax from records."""
    prepare_dataset(
        download_of("tree"), folder / "tree", folder / "records", file_format="records", workers=args.workers
    )
    sequences = scan_tree(folder / "tree")
    ways = (
        lambda: customary_batches(sequences, recipe),
        lambda: our_batches(sequences, PklSource(), recipe, args.workers),
        lambda: our_batches(*open_records(folder / "records"), recipe, args.workers),
    )
    rates: list[list[float]] = [[] for _ in ways]
    for _ in range(args.rounds):
        for way, measured in zip(ways, rates, strict=True):
            with way() as batches:
                measured.append(rate(batches, math.prod(recipe.batch), args.seconds))
    return [statistics.median(measured) for measured in rates]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--workers", type=int, default=2, help="loader processes of mcl_jax (2)")
    parser.add_argument("--subjects", type=int, default=64)
    parser.add_argument("--sequences", type=int, default=12, help="sequences of each subject (12)")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of each measurement (6)")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    cv2.setNumThreads(0)  # the loader processes are the parallelism
    keep_freed_memory()  # also in the usual loader, so that both sides profit
    print(f"{'recipe':<28}{'customary':>11}{'tree':>9}{'ratio':>7}{'records':>9}{'ratio':>7}   sequences/s")
    for name in args.recipes:
        recipe = RECIPES[name]
        with tempfile.TemporaryDirectory() as folder:
            print(f"{name}: writing {args.subjects * args.sequences} sequences", file=sys.stderr)
            build_tree(Path(folder, "tree"), recipe, args.subjects, args.sequences)
            customary, *ours = measure(Path(folder), recipe, args)
        line = "".join(f"{r:>9.0f}{r / customary:>6.1f}×" for r in ours)
        print(f"{name:<28}{customary:>11.0f}{line}", flush=True)


if __name__ == "__main__":
    main()
