"""Trains PyTorch and mcl_jax on the same batches from the same weights, and compares their rank-1.

    python benchmarks/trained_alike.py FOLDER                             # everything, hours on two cores
    python benchmarks/trained_alike.py FOLDER --models gaitbase --precisions float32 --seeds 0
    python benchmarks/trained_alike.py FOLDER --docs docs/parity.md       # the table of the docs

The people are drawn as those of `mcl-jax demo`, half as many for testing; the recipes are its MCL and
its triplet loss with half its batch, 8 × 4. A seed decides PyTorch's initial weights, which mcl_jax
imports, and the batches. PyTorch's trained weights are imported too, and mcl_jax tests all in float32,
because its embeddings equal PyTorch's (docs/parity.md). Results are added to FOLDER/results.jsonl one by
one; existing results are not made again. PyTorch's tensors keep its default layout: on the tested CPU,
`channels_last` took half the digits from convolutions of so few channels.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from docs_table import write_between
from ml_collections import ConfigDict
from torch import nn
from torch.overrides import TorchFunctionMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from torch_reference import MODELS, Optimizer, Recipe, TorchTrainer

import mcl_jax
from mcl_jax.build import build_dataset, build_train_loader
from mcl_jax.config import add_parts, load_config
from mcl_jax.data.feed.packing import TrainBatch
from mcl_jax.walkers import write_walkers

SIZES = {
    "gaitbase": {"channels": (8, 16, 32, 64), "embed_dim": 64},
    "deepgaitv2": {"mode": "p3d", "layers": (1, 1, 1, 1), "channels": (4, 8, 16, 32)},
}
SAMPLING = {"gaitbase": "fixed_unordered", "deepgaitv2": "fixed_ordered"}
LOSSES = ("mcl", "triplet")
PRECISIONS = ("float32", "bfloat16")
SIDES = ("PyTorch", "mcl_jax")
BEGIN, FINISH = "<!-- begin of benchmarks/trained_alike.py -->", "<!-- end of benchmarks/trained_alike.py -->"


class RoundedConvolutions(TorchFunctionMode):
    """Convolutions of bfloat16 numbers with sums in float32, results and gradients rounded to bfloat16.

    This is autocast's arithmetic. On CPUs without instructions for bfloat16, PyTorch's own convolutions
    take five times as long for it.
    """

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: tuple = (), kwargs: dict | None = None
    ) -> object:
        if func not in (F.conv2d, F.conv3d):
            return func(*args, **(kwargs or {}))
        images, weights, *others = args
        with torch.autocast("cpu", enabled=False):
            found = func(images.bfloat16().float(), weights.bfloat16().float(), *others, **(kwargs or {}))
        return found.bfloat16()


class MixedPrecision(nn.Module):
    """A model under PyTorch's autocast to bfloat16; its outputs are float32, as the losses need."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, frames: torch.Tensor, lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16), RoundedConvolutions():
            embeddings, logits = self.model(frames, lengths)
        return embeddings.float(), logits.float()


def draw_people(folder: Path) -> None:
    """Writes 100 people for training and 25 for testing, unless they are there."""
    views = ("036", "072", "108", "144")
    write_walkers(folder, subjects=125, test_subjects=25, views=views, frames=30, workers=2)


def config_of(folder: Path, run: dict) -> ConfigDict:
    """Returns the config of a run."""
    people = folder / "walkers"
    overrides = {
        "seed": run["seed"],
        "data.root": str(people),
        "data.partition": f"{people}_partition.json",
        "data.sampling.mode": SAMPLING[run["model"]],
        "model.name": run["model"],
        "train.precision": run["precision"],
        "train.keep_classifier": True,
        "train.steps": run["steps"],
        "train.batch": (8, 4),
        "schedule.milestones": (run["steps"] * 2 // 3, run["steps"] * 9 // 10),
        "eval.precision": "float32",
        "init_from": str(folder / f"{run['model']}-{run['seed']}.pt"),
        **{f"model.{key}": value for key, value in SIZES[run["model"]].items()},
    }
    config = load_config(f"walkers_{run['loss']}")
    add_parts(config, overrides)
    config.update_from_flattened_dict(overrides)
    return config


def torch_trainer(config: ConfigDict, model: nn.Module) -> TorchTrainer:
    """Returns PyTorch's trainer with the losses, optimiser and schedule of a config of this file."""
    (loss,) = (config.loss[name] for name in LOSSES if name in config.loss)
    other = config.loss.cross_entropy
    recipe = Recipe(
        margin=loss.margin,
        gamma=loss.get("gamma"),
        weight=loss.weight,
        ce_weight=other.weight,
        ce_scale=other.scale,
        ce_smoothing=other.label_smoothing,
    )
    optimizer = Optimizer(
        "sgd",
        lr=config.optimizer.lr,
        weight_decay=config.optimizer.weight_decay,
        milestones=config.schedule.milestones,
    )
    return TorchTrainer(model, recipe, optimizer)


def scores_of_torch(config: ConfigDict, model: nn.Module, path: Path) -> dict[str, float]:
    """Trains PyTorch's model on the batches of mcl_jax's loader, writes its weights, and tests them."""
    dataset = build_dataset(config)
    loader = build_train_loader(config, dataset.train_split())
    mixed = config.train.precision == "bfloat16"
    trainer = torch_trainer(config, MixedPrecision(model) if mixed else model)
    for step in range(config.train.steps):
        frames, lengths, labels = unpacked(loader(step))
        trainer.step(torch.from_numpy(frames).float() / 255, lengths, torch.from_numpy(labels))
    torch.save(model.state_dict(), path)
    found = mcl_jax.load(path, precision="float32").embed_split(dataset.test_split())
    return rank_1(mcl_jax.score(found, "casiab").scores)


def unpacked(batch: TrainBatch) -> tuple[np.ndarray, list[int], np.ndarray]:
    """Returns frames [f, h, w] end to end, lengths and labels of the sequences of a batch."""
    clips, labels = [], []
    for frames, ids, names in zip(batch["frames"], batch["segment_ids"], batch["labels"], strict=True):
        for segment in np.unique(ids[ids >= 0]):
            clips.append(frames[ids == segment])
            labels.append(names[segment])
    return np.concatenate(clips), [len(clip) for clip in clips], np.array(labels, np.int64)


def rank_1(scores: dict[str, dict[str, float]]) -> dict[str, float]:
    """Returns the rank-1 of each condition in percent."""
    return {condition: figures["Rank-1"] for condition, figures in scores.items()}


def trained(folder: Path, run: dict) -> dict[str, float]:
    """Trains and tests one run; returns its scores in percent."""
    torch.manual_seed(run["seed"])
    model = MODELS[run["model"]](**SIZES[run["model"]], num_classes=100)
    torch.save(model.state_dict(), folder / f"{run['model']}-{run['seed']}.pt")
    config = config_of(folder, run)
    name = "-".join(str(value) for value in run.values())
    if run["side"] == "PyTorch":
        return scores_of_torch(config, model, folder / f"{name}.pt")
    return rank_1(mcl_jax.train(config, folder / name)["scores"])


def table(rows: list[dict]) -> str:
    """Returns mean rank-1 and its spread over the seeds, both sides one above the other, as Markdown."""
    conditions = list(rows[0]["scores"])
    head = ["model", "loss", "precision", "steps", "trained by", "seeds", *conditions]
    lines = ["| " + " | ".join(head) + " |", "|---|---|---|--:|---|" + "--:|" * (len(conditions) + 1)]
    steps = sorted({row["steps"] for row in rows}, reverse=True)
    for values in itertools.product(SIZES, LOSSES, PRECISIONS, steps, SIDES):
        wanted = dict(zip(("model", "loss", "precision", "steps", "side"), values, strict=True))
        found = [row["scores"] for row in rows if wanted.items() <= row.items()]
        if found:
            means = [[scores[name] for scores in found] for name in conditions]
            cells = (*values, len(found), *map(mean_and_spread, means))
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def mean_and_spread(values: list[float]) -> str:
    """Returns the mean and, of several values, their standard deviation."""
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--models", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=list(LOSSES))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of PyTorch")
    parser.add_argument("--docs", type=Path, help="write the table into this page, and train nothing")
    args = parser.parse_args()
    results = args.folder / "results.jsonl"
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    if args.docs:
        write_between(args.docs, BEGIN, FINISH, f"\n{table(rows)}\n")
        return
    torch.set_num_threads(args.threads)
    draw_people(args.folder / "walkers")
    for precision, model, seed, loss, side in itertools.product(
        args.precisions, args.models, args.seeds, args.losses, SIDES
    ):
        run = {"model": model, "loss": loss, "precision": precision, "seed": seed, "side": side}
        run["steps"] = args.steps
        if any(run.items() <= row.items() for row in rows):
            continue
        began = time.monotonic()
        row = run | {"scores": trained(args.folder, run), "seconds": time.monotonic() - began}
        rows.append(row)
        with results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
