"""Lets PyTorch and mcl_jax go on from the same trained weights, and compares their losses step by step.

    python benchmarks/trained_alike.py FOLDER --models gaitbase --losses mcl --precisions float32 --seeds 0
    python benchmarks/follow_pytorch.py FOLDER --seed 0

The weights are those that PyTorch trained with this seed. Both sides start from them without momentum, at
a tenth of the rate, so that rounding grows slowly. PyTorch goes on in float64 and in float32,
`mcl_jax.train` in float32.
"""

import argparse
import copy
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
import trained_alike
from ml_collections import ConfigDict
from torch_reference import MODELS

import mcl_jax
from mcl_jax.build import build_dataset, build_train_loader


def losses_of_torch(config: ConfigDict, model: torch.nn.Module) -> dict[str, np.ndarray]:
    """Returns the losses [steps] of PyTorch in float64 and in float32."""
    loader = build_train_loader(config, build_dataset(config).train_split())
    models = {"float64": copy.deepcopy(model).double(), "float32": model}
    trainers = {name: trained_alike.torch_trainer(config, each) for name, each in models.items()}
    losses: dict[str, list[float]] = {name: [] for name in models}
    for step in range(config.train.steps):
        frames, lengths, labels = trained_alike.unpacked(loader(step))
        for name, trainer in trainers.items():
            pixels = torch.from_numpy(frames).to(getattr(torch, name)) / 255
            losses[name].append(trainer.step(pixels, lengths, torch.from_numpy(labels))[2])
    return {name: np.array(values) for name, values in losses.items()}


def losses_of_jax(config: ConfigDict) -> np.ndarray:
    """Returns the losses [steps] of a run of `mcl_jax.train`."""
    with tempfile.TemporaryDirectory() as folder:
        mcl_jax.train(config, folder)
        lines = (Path(folder) / "curves.jsonl").read_text().splitlines()
    return np.array([found["train/loss"] for found in map(json.loads, lines) if "train/loss" in found])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of trained_alike.py")
    parser.add_argument("--model", choices=trained_alike.SIZES, default="gaitbase")
    parser.add_argument("--loss", choices=trained_alike.LOSSES, default="mcl")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trained", type=int, default=400, help="steps of PyTorch's run")
    parser.add_argument("--steps", type=int, default=40)
    args = parser.parse_args()
    run = {"model": args.model, "loss": args.loss, "precision": "float32", "seed": args.seed}
    weights = args.folder / f"{args.model}-{args.loss}-float32-{args.seed}-PyTorch-{args.trained}.pt"
    config = trained_alike.config_of(args.folder, run | {"steps": args.steps})
    config.init_from = str(weights)
    config.optimizer.lr /= 10
    config.schedule.milestones = (10 * args.steps,)
    config.train.log_every = 1
    model = MODELS[args.model](**trained_alike.SIZES[args.model], num_classes=100)
    model.load_state_dict(torch.load(weights, weights_only=True))
    found = losses_of_torch(config, model) | {"mcl_jax": losses_of_jax(config)}
    exact = found.pop("float64")
    print("steps: float64 loss; difference of PyTorch's float32 and of mcl_jax, mean over ten steps")
    for ten in np.array_split(np.arange(args.steps), max(1, args.steps // 10)):
        means = [(values - exact)[ten].mean() for values in found.values()]
        print(f"{ten[0]} to {ten[-1]}: {exact[ten].mean():.4f}; " + ", ".join(f"{x:+.1e}" for x in means))


if __name__ == "__main__":
    main()
