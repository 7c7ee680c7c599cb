"""Single files that mcl_jax writes and reads again: models, embeddings, the record of a reproduction."""

import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mcl_jax.evaluation.embeddings import EmbeddingSet
from mcl_jax.models.registry import Weights, create_model
from mcl_jax.reproduction.record import JSON, MARKDOWN, read_record, write_record
from mcl_jax.weights.load import load_weights
from mcl_jax.weights.model_file import write_model
from mcl_jax.weights.packed import read_packed, write_packed
from targets.base import Stored
from targets.checkpoint import digest


def toy_weights() -> Weights:
    """Returns a tiny model with a threshold and a recipe."""
    sizes = {"channels": (2, 3, 4, 4), "embed_dim": 5, "num_classes": 7}
    model = create_model("gaitpocket", sizes, dtype="float32")
    params, batch_stats = jax.device_get(model.initial_arrays(0))
    recipe: dict[str, Any] = {"data": {"dataset": "casiab"}}
    return Weights(model.block, params, batch_stats, 12, "here", thresholds={0.01: 1.5}, recipe=recipe)


def decided_by(weights: Weights) -> str:
    """Returns all that weights decide."""
    found = digest((weights.params, weights.batch_stats))
    return f"{found} {weights.step} {weights.block} {weights.thresholds} {weights.recipe}"


class Packed(Stored):
    harm_is = "bits of a packed model"

    def make(self, folder: Path) -> None:
        write_packed(folder / "model.npz", toy_weights())

    def answer(self, folder: Path) -> str:
        return decided_by(read_packed(folder / "model.npz"))


class ModelFile(Stored):
    harm_is = "bits of the model.safetensors of `Gait.save`"

    def make(self, folder: Path) -> None:
        write_model(folder / "model.safetensors", toy_weights())

    def answer(self, folder: Path) -> str:
        return decided_by(load_weights(folder / "model.safetensors"))


class Record(Stored):
    harm_is = "bits of reproduction.json"

    def make(self, folder: Path) -> None:
        row = {"group": "NM", "figure": "Rank-1", "published": 97.6, "measured": 97.5, "difference": -0.1}
        write_record(
            folder,
            {
                "name": "casiab_mcl",
                "verdict": "reproduced",
                "date": "2026-01-01",
                "device": [1, "cpu", "x86_64"],
                "versions": {"mcl_jax": "1"},
                "seconds": 5,
                "weights": {
                    "source": "here",
                    "model": "GaitBase",
                    "step": 60000,
                    "file_sha256": "0" * 64,
                    "digest": "1" * 64,
                    "trained_here": False,
                },
                "dataset": {"name": "casiab", "findings": ["people: 124"], "frames": "64×44"},
                "protocol": "casiab",
                "metric": "euc",
                "counts": {"probes": 5500},
                "settings": {"dtype": "float32"},
                "reasons": [],
                "figures": [row],
            },
        )
        (folder / MARKDOWN).unlink()  # nothing reads it

    def answer(self, folder: Path) -> str:
        return json.dumps(read_record(folder / JSON), sort_keys=True)


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
