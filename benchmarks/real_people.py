"""Tests a trained model on real people it has never seen, next to the gait energy image.

python benchmarks/real_people.py RUN --walks walks.npz

RUN is the workdir of a run, a checkpoint or a packed model, or the word "package" for the model that comes
with mcl_jax; without RUN, only the gait energy image is scored. The walks are an .npz file of uint8 [s, 64,
64] under keys subject/scene/take. With --synthetic, walkers of another seed and style than in training are
tested too. The figure after ± is the standard error over people of this kind.
"""

import argparse
from pathlib import Path

import numpy as np
from scenes import (
    SceneScores,
    jackknife_error,
    score_across_scenes,
    scores_without_each_subject,
)

import mcl_jax
from mcl_jax.walkers import WalkerStyle, render_sequence

HELD_OUT = WalkerStyle(identity_spread=1.0, noise=2.0, camera=2.0, wardrobe=1.0)
"""Style with a segmenter's errors instead of errors of background subtraction."""
SCENES = ("nm-01", "nm-02", "cl-01")


def real_walks(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in sorted(file.files)}


def synthetic_walks(subjects: int, seed: int = 1_000) -> dict[str, np.ndarray]:
    return {
        f"{subject:03d}/{scene}/{view}": render_sequence(seed, subject, scene, view, 40, HELD_OUT)
        for subject in range(subjects)
        for scene in SCENES
        for view in ("072", "090")
    }


def labelled(embeddings: np.ndarray, keys: list[str]) -> mcl_jax.EmbeddingSet:
    subjects, scenes, takes = (np.array(part) for part in zip(*(key.split("/") for key in keys), strict=True))
    return mcl_jax.EmbeddingSet(embeddings, subjects, scenes, takes)


def energy_images(walks: list[np.ndarray]) -> np.ndarray:
    """Returns the mean frame of each walk as an embedding of one part, [n, 1, 64 · 64]."""
    return np.stack([walk.mean(axis=0, dtype=np.float32).reshape(1, -1) / 255 for walk in walks])


def mirrored(images: np.ndarray) -> np.ndarray:
    """Averages each energy image with its mirror image, so that the walking direction does not matter."""
    square = images.reshape(len(images), 64, 64)
    return (0.5 * (square + square[..., ::-1])).reshape(images.shape)


def columns_of(scores: SceneScores, focus: tuple[str, ...]) -> np.ndarray:
    focused = [scores.mean(*focus)] if focus else []
    return np.array([*focused, scores.mean(), scores.mean_ap, scores.eer])


def report(title: str, walks: dict[str, np.ndarray], model: mcl_jax.Gait | None, metric: str) -> None:
    """Prints each figure with its standard error, and its difference from the gait energy image."""
    keys, frames = list(walks), list(walks.values())
    people = len({key.split("/")[0] for key in keys})
    print(f"{title}: {len(keys)} walks of {people} people; chance is {100 / people:.0f} %")
    plain = energy_images(frames)
    rows = {"gait energy image": (plain, "euc"), "… mirrored": (mirrored(plain), "euc")}
    if model is not None:
        rows[f"{model.name} {model.step}"] = (model.embed(frames), metric)
    scenes = {key.split("/")[1] for key in keys}
    focus = ("d1", "d4") if {"d1", "d4"} <= scenes else ()
    print(" " * 18, *(f"{name:>14}" for name in ["d1,d4"] * bool(focus) + ["all", "mAP", "EER"]))
    base = base_without = np.zeros(0)
    for name, (embeddings, measure) in rows.items():
        labels = labelled(embeddings, keys)
        distances = mcl_jax.distances(embeddings, embeddings, metric=measure)
        scores = score_across_scenes(labels, distances)
        value = columns_of(scores, focus)
        left_out = scores_without_each_subject(labels, distances)
        without = np.stack([columns_of(each, focus) for each in left_out])
        print_row(name, value, without)
        if base.size:
            print_row("  difference", value - base, without - base_without)
        else:
            base, base_without = value, without
        cells = (f"{probe}→{gallery} {cell:.1f}" for (probe, gallery), cell in scores.rank1.items())
        print("  rank-1", *cells, sep="  ")
    if model is not None and model.thresholds and metric == "euc":
        report_thresholds(model.thresholds, labels, distances)


def report_thresholds(
    thresholds: dict[float, float], labels: mcl_jax.EmbeddingSet, distances: np.ndarray
) -> None:
    """Prints the shares of pairs from two scenes that the model's own thresholds accept."""
    across = labels.conditions[:, None] < labels.conditions
    same = labels.subjects[:, None] == labels.subjects
    genuine, impostor = distances[across & same], distances[across & ~same]
    for rate, threshold in thresholds.items():
        accepted = (genuine <= threshold).mean(), (impostor <= threshold).mean()
        print(
            f"  threshold {threshold:.3f} for a false-accept rate of {rate:g} on walkers: accepts "
            f"{100 * accepted[0]:.1f} % of {len(genuine)} pairs of one person and "
            f"{100 * accepted[1]:.2f} % of {len(impostor)} of two"
        )


def print_row(name: str, value: np.ndarray, without: np.ndarray) -> None:
    errors = [jackknife_error(column) for column in without.T]
    print(f"{name:<18}", *(f"{v:7.1f} ± {e:4.1f}" for v, e in zip(value, errors, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", help="workdir of a run, checkpoint, packed model, or package")
    parser.add_argument("--walks", type=Path, default=Path("walks.npz"))
    parser.add_argument("--metric", choices=("euc", "cos"), default="euc")
    parser.add_argument(
        "--synthetic", type=int, default=0, help="also test this number of synthetic people (0)"
    )
    args = parser.parse_args()
    model = mcl_jax.load(None if args.run == "package" else args.run) if args.run else None
    if args.walks.is_file():
        report("real people", real_walks(args.walks), model, args.metric)
    else:
        print(f"no real people: there is no {args.walks}")
        args.synthetic = args.synthetic or 30
    if args.synthetic:
        report("synthetic people", synthetic_walks(args.synthetic), model, args.metric)


if __name__ == "__main__":
    main()
