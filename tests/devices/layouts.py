"""Compares a training and a test in float64 on several numbers of devices and hosts.

    python tests/devices/layouts.py                                  # the table of docs/reliability.md
    python tests/devices/layouts.py --rates 1e-3 1e-2 --layouts 1x4  # the rates at which rounding grows

A layout is hosts × devices per host; each runs in separate processes and is compared with 1x1. "Rounding" is
1x1 again with initial parameters changed in their last bit, an effect like that of another order of sums.
With --namespaces, every host runs in its own network namespace, joined by a bridge (as root, on Linux).
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from ml_collections import ConfigDict
from namespaces import Namespaces

from mcl_jax.build import build_dataset, build_optimization, build_train_model
from mcl_jax.config import frame_sampling, load_config, model_block
from mcl_jax.data.feed.loaders import HostShare, TrainLoader
from mcl_jax.embed import Embedder
from mcl_jax.models.registry import Model, model_of
from mcl_jax.runtime import hosts
from mcl_jax.runtime.mesh import data_mesh, put_rows, replicated
from mcl_jax.training.nonfinite import compile_guarded, guarded, start_counter
from mcl_jax.training.state import TrainState, create_state
from mcl_jax.training.step import make_train_step
from mcl_jax.walkers import write_walkers

PORT = 9876
LAYOUTS = ("1x2", "1x4", "1x8", "2x2", "4x1", "rounding")


@dataclass(frozen=True)
class Outcome:
    """The outcome of a training on some layout.

    Attributes:
        losses: of each step.
        numbers: parameters and batch statistics after the last, in a row.
        embeddings: [n, p, c] of the test split by the trained model; they are float32 always.
    """

    losses: np.ndarray
    numbers: np.ndarray
    embeddings: np.ndarray


def toy_config(people: Path, *, lengths: str, rate: float) -> ConfigDict:
    """Returns the config of a tiny GaitBase with MCL; no number of devices here divides the batch of 3 × 3.

    Args:
        people: the tree of walkers.
        lengths: fixed, or drawn, which are packed.
        rate: of learning.
    """
    config = load_config("walkers_mcl")
    config.data.root = str(people)
    config.data.partition = str(people.parent / f"{people.name}_partition.json")
    config.data.sampling.frames = 2
    if lengths == "drawn":
        config.data.sampling.mode = "unfixed_unordered"
        config.data.sampling.min_frames, config.data.sampling.max_frames = 1, 4
    config.model.channels, config.model.embed_dim = (2, 2, 3, 3), 3
    config.train.batch = (3, 3)
    config.optimizer.lr = rate
    return config


def train(
    config: ConfigDict, mesh: Mesh, steps: int, *, off_by: float = 0.0
) -> tuple[Model, TrainState, np.ndarray]:
    """Trains in float64 on the devices of a mesh, from parameters that are all off by a share of themselves.

    Returns:
        The model, its state, and the loss of every step.
    """
    split = build_dataset(config).train_split()
    loader = TrainLoader(
        split,
        batch=config.train.batch,
        frames=frame_sampling(config),
        augmentation=config.data.augment,
        seed=config.seed,
        share=HostShare(jax.process_index(), jax.process_count(), mesh.size, config.train.accumulate),
        row_sizes=config.train.row_sizes,
    )
    optimizer = build_optimization(config).optimizer
    model = build_train_model(config, model_block(config), len(split.subjects))
    model = model_of(model.block, dtype="float64")
    params, batch_stats = jax.tree.map(lambda x: x.astype(jnp.float64), model.initial_arrays(config.seed))
    params = jax.tree.map(lambda x: x * (1 + off_by), params)
    state = jax.device_put(create_state(params, batch_stats, optimizer), replicated(mesh))
    update = make_train_step(model, optimizer, config.loss.to_dict(), chunks=config.train.accumulate)
    step = compile_guarded(guarded(update, 0), mesh, {})
    left_out, losses = jax.device_put(start_counter(), replicated(mesh)), []
    for number in range(steps):
        leave = np.zeros(len(mesh.local_devices), bool)
        state, left_out, metrics = step(state, left_out, put_rows(loader(number) | {"leave": leave}, mesh))
        losses.append(float(metrics["loss"]))
    if int(state.step) != steps:
        raise SystemExit(f"only {int(state.step)} steps of {steps} were finite")
    return model, state, np.array(losses)


def in_a_row(state: TrainState) -> np.ndarray:
    """Returns all parameters and batch statistics as one float64 array."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves((state.params, state.batch_stats))]
    if any(leaf.dtype != np.float64 for leaf in leaves):
        raise TypeError("not computed in float64")
    return np.concatenate([leaf.reshape(-1) for leaf in leaves])


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the largest difference, by the size of the largest number of `a`."""
    return float(np.abs(a - b).max() / np.abs(a).max())


def make_people(root: Path) -> Path:
    """Writes walks of five people, two of them to test on, and returns their tree."""
    write_walkers(
        root,
        subjects=5,
        test_subjects=2,
        views=("036", "090"),
        conditions=("nm-01", "nm-05", "bg-01", "cl-01"),
        frames=6,
        workers=1,
    )
    return root


def run_here(args: argparse.Namespace) -> None:
    """Is one host of a layout; the first writes the outcome into the folder."""
    if args.count > 1:
        hosts.join(str(args.count), args.coordinator, args.host)
    config = toy_config(args.folder / "walkers", lengths=args.lengths, rate=args.rate)
    with jax.enable_x64(True):
        off_by = 2.0**-52 if args.layout == "rounding" else 0.0
        model, state, losses = train(config, data_mesh(), args.steps, off_by=off_by)
        # 16 sequences in batches of three rows: they divide by no number of devices.
        split = build_dataset(config).test_split()
        embedder = Embedder(model, rows=3, slots=32)
        embedded = embedder.embed_split(state.params, state.batch_stats, split, workers=0)
        numbers = in_a_row(state)
    if jax.process_index() == 0:
        path = args.folder / "outcome.npz"
        np.savez(path, losses=losses, numbers=numbers, embeddings=embedded.embeddings)
    if args.count > 1:
        multihost_utils.sync_global_devices("done")


def outcome(args: argparse.Namespace, layout: str, *setting: str) -> Outcome:
    """Runs a layout in processes of its own."""
    count, devices = (1, 1) if layout == "rounding" else map(int, layout.split("x"))
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    line = [sys.executable, __file__, f"--folder={args.folder}", f"--steps={args.steps}", *setting]
    line += [f"--layout={layout}", f"--count={count}"]
    with Namespaces(count if args.namespaces else 0) as network:
        processes = [
            subprocess.Popen(
                [
                    *network.inside(host),
                    *line,
                    f"--host={host}",
                    f"--coordinator={network.address}:{PORT}",
                ],
                env=environment,
            )
            for host in range(count)
        ]
        codes = [process.wait() for process in processes]
    if any(codes):
        raise SystemExit(f"{layout}: exit codes {codes}")
    with np.load(args.folder / "outcome.npz") as arrays:
        return Outcome(**arrays)


def compare(args: argparse.Namespace) -> None:
    """Prints the table."""
    print("| lengths | learning rate | layout | first loss | losses | parameters | embeddings |")
    print("|---|---|---|---|---|---|---|")
    make_people(args.folder / "walkers")
    for lengths in args.kinds:
        for rate in args.rates:
            setting = (f"--lengths={lengths}", f"--rate={rate}")
            one = outcome(args, "1x1", *setting)
            for layout in args.layouts:
                other = outcome(args, layout, *setting)
                found = (
                    difference(one.losses[:1], other.losses[:1]),
                    difference(one.losses, other.losses),
                    difference(one.numbers, other.numbers),
                    difference(one.embeddings, other.embeddings),
                )
                cells = " | ".join(f"{value:.1e}" for value in found)
                print(f"| {lengths} | {rate:g} | {layout} | {cells} |", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--layouts", nargs="+", default=LAYOUTS, help="hosts × devices, or rounding")
    parser.add_argument("--kinds", nargs="+", choices=("fixed", "drawn"), default=("fixed", "drawn"))
    parser.add_argument("--rates", nargs="+", type=float, default=(1e-4,))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--namespaces", action="store_true")
    own = parser.add_argument_group("of one host, set by this program")
    own.add_argument("--folder", type=Path)
    own.add_argument("--lengths")
    own.add_argument("--rate", type=float)
    own.add_argument("--layout")
    own.add_argument("--count", type=int)
    own.add_argument("--host", type=int)
    own.add_argument("--coordinator")
    args = parser.parse_args(arguments)
    if args.layout:
        run_here(args)
        return
    with tempfile.TemporaryDirectory() as folder:
        args.folder = Path(folder)
        compare(args)


if __name__ == "__main__":
    main()
