"""Gait recognition with Multi-view Consistency Loss, in JAX.

The public face: everything named here is documented and stable, and imported when it is first used.

    import mcl_jax

    gait = mcl_jax.load("runs/casiab_mcl")  # a run, or an OpenGait checkpoint
    x = gait.embed([walk_a, walk_b])  # uint8 [s, 64, 64 or 44] each → float32 [2, parts, channels]
    d = mcl_jax.distances(x[0], x[1])  # a number: the smaller, the more alike
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcl_jax.api import Gait, load, train
    from mcl_jax.config import load_config, recipes
    from mcl_jax.data.datasets import OpenDataset, open_dataset
    from mcl_jax.errors import UserError
    from mcl_jax.evaluation.distances import distances
    from mcl_jax.evaluation.embeddings import EmbeddingSet
    from mcl_jax.evaluation.report import Report, score
    from mcl_jax.exporting.writer import export
    from mcl_jax.gallery import Gallery, open_gallery
    from mcl_jax.model_check import check_model

__version__ = "0.1.0"

_HOMES = {
    "EmbeddingSet": "evaluation.embeddings",
    "Gait": "api",
    "Gallery": "gallery",
    "OpenDataset": "data.datasets",
    "Report": "evaluation.report",
    "UserError": "errors",
    "check_model": "model_check",
    "distances": "evaluation.distances",
    "export": "exporting.writer",
    "load": "api",
    "load_config": "config",
    "open_dataset": "data.datasets",
    "open_gallery": "gallery",
    "recipes": "config",
    "score": "evaluation.report",
    "train": "api",
}

__all__ = [
    "EmbeddingSet",
    "Gait",
    "Gallery",
    "OpenDataset",
    "Report",
    "UserError",
    "check_model",
    "distances",
    "export",
    "load",
    "load_config",
    "open_dataset",
    "open_gallery",
    "recipes",
    "score",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mcl_jax' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"mcl_jax.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
