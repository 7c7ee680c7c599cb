"""Single files that mcl_jax writes: a packed model, and embeddings."""

import hashlib
from pathlib import Path

import jax
import numpy as np

from mcl_jax.evaluation.embeddings import EmbeddingSet
from mcl_jax.models.registry import Weights, create_model
from mcl_jax.weights.packed import read_packed, write_packed
from targets.base import Stored
from targets.checkpoint import digest


class Packed(Stored):
    harm_is = "bits of a packed model"

    def make(self, folder: Path) -> None:
        sizes = {"channels": (2, 3, 4, 4), "embed_dim": 5, "num_classes": 7}
        model = create_model("gaitpocket", sizes, dtype="float32")
        params, batch_stats = jax.device_get(model.initial_arrays(0))
        weights = Weights(model.block, params, batch_stats, 12, "here", thresholds={0.01: 1.5})
        write_packed(folder / "model.npz", weights)

    def answer(self, folder: Path) -> str:
        weights = read_packed(folder / "model.npz")
        found = digest((weights.params, weights.batch_stats))
        return f"{found} {weights.step} {weights.block} {weights.thresholds}"


class Embeddings(Stored):
    harm_is = "bits of embeddings.npz"

    def make(self, folder: Path) -> None:
        rng, names = np.random.default_rng(0), [f"{number:03d}" for number in range(12)]
        labels = np.array(names)
        values = rng.standard_normal((12, 2, 4)).astype(np.float32)
        EmbeddingSet(values, labels, labels, labels).save(folder / "embeddings.npz")

    def answer(self, folder: Path) -> str:
        found = EmbeddingSet.load(folder / "embeddings.npz")
        return hashlib.sha256(found.embeddings.tobytes()).hexdigest() + str(found.keys())
