"""Compares rank-1 and embeddings of a trained model in float32, TF32, bfloat16 and float16.

    python benchmarks/precision.py RUN --root WALKERS --partition WALKERS_partition.json
    python benchmarks/precision.py package --walks walks.npz       # walks as for benchmarks/real_people.py

CPUs have no TF32. It is simulated in float32, with factors rounded to 10 bits before every convolution and
product.
"""

import argparse
import os

os.environ["MCL_JAX_NATIVE"] = "0"  # use the same convolutions for every precision

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jax import lax
from real_people import labelled, real_walks
from scenes import score_across_scenes

import mcl_jax
from mcl_jax.models import layers
from mcl_jax.ops import convolution


def in_tf32() -> None:
    """Makes all convolutions and products of models round their factors from now on."""
    by_xla, einsum = convolution._by_xla_on_cpu, jnp.einsum

    def rounded(x):
        return lax.reduce_precision(x, exponent_bits=8, mantissa_bits=10)

    convolution._by_xla_on_cpu = lambda x, kernel, *rest: by_xla(rounded(x), rounded(kernel), *rest)

    class Products:
        def __getattr__(self, name):
            return getattr(jnp, name)

        def einsum(self, formula, x, y, **others):
            return einsum(formula, rounded(x), rounded(y), **others)

    layers.jnp = Products()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="workdir of a run, a checkpoint, or package")
    parser.add_argument("--root", help="folder of a tree of walkers")
    parser.add_argument("--partition", default="")
    parser.add_argument("--walks", type=Path, help=".npz of real walks, subject/scene/take")
    args = parser.parse_args()
    path = None if args.run == "package" else args.run
    exact: np.ndarray | None = None
    for precision in ("float32", "bfloat16", "float16", "tf32"):
        if precision == "tf32":
            in_tf32()
        gait = mcl_jax.load(path, precision="float32" if precision == "tf32" else precision)
        if args.walks:
            walks = real_walks(args.walks)
            found = labelled(gait.embed(list(walks.values())), list(walks))
            distances = mcl_jax.distances(found.embeddings, found.embeddings)
            scores = f"rank-1 across scenes {score_across_scenes(found, distances).mean():.2f}"
        else:
            dataset = mcl_jax.open_dataset("walkers", args.root, partition=args.partition)
            found = gait.embed_split(dataset.test_split())
            scores = str(mcl_jax.score(found, "casiab").scores)
        x = found.embeddings
        exact = x if exact is None else exact
        error = np.linalg.norm(x - exact, axis=-1) / np.linalg.norm(exact, axis=-1)
        print(
            f"{precision:<9} off by {error.mean():.1e} on average, {error.max():.1e} at most; {scores}",
            flush=True,
        )


if __name__ == "__main__":
    main()
