"""Origin of a result: the weights, the data, the date, and the version of mcl_jax."""

import datetime
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mcl_jax.utils.digest import SHORT
from mcl_jax.utils.version import own_version


@dataclass(frozen=True)
class ModelOrigin:
    """The weights that embedded a test set.

    Attributes:
        name: name of the model.
        digest: SHA-256 of the model's name, sizes and all its numbers except the classifier's.
        checkpoint: path of the checkpoint or file with the weights.
        step: number of updates in training.
        embedding: settings of the embedding: `parts`, `channels`, the `precision` of the computation,
            `max_frames` (only so many frames of a sequence are used), and options of the model.
    """

    name: str
    digest: str
    checkpoint: str
    step: int
    embedding: Mapping[str, Any]


@dataclass(frozen=True)
class DataOrigin:
    """The sequences that were embedded.

    Attributes:
        dataset: its name in a config.
        root: its folder.
        digest: SHA-256 of the names of the test sequences and the frames of some of them.
    """

    dataset: str
    root: str
    digest: str


@dataclass(frozen=True)
class Origin:
    """Origin of a test's result: the weights and the sequences.

    Attributes:
        model: the weights.
        data: the sequences.
    """

    model: ModelOrigin
    data: DataOrigin

    def blocks(self) -> dict[str, Any]:
        """Returns the blocks `model`, `data` and `made` of metrics.json; `made` has the current time."""
        return {"model": asdict(self.model), "data": asdict(self.data), "made": made_now()}


def made_now() -> dict[str, str]:
    """Returns the block `made` of metrics.json: the date, and the version of mcl_jax."""
    now = datetime.datetime.now().astimezone()
    return {"date": now.isoformat(timespec="seconds"), "mcl_jax": own_version()}


def facts_of_origin(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Returns the origin of the figures in metrics.json as text; {} if it is unknown.

    Args:
        metrics: content of metrics.json; it may have the blocks of `Origin.blocks`, and `embeddings`, the
            file that was scored.
    """
    facts: dict[str, str] = {}
    if model := metrics.get("model"):
        facts["model"] = f"{model['name']}, step {model['step']}, digest {model['digest'][:SHORT]}"
        facts["checkpoint"] = model["checkpoint"]
        facts["embedding"] = _words_of_embedding(model["embedding"])
    if data := metrics.get("data"):
        facts["data"] = f"{data['dataset']}, {data['root']}"
    if file := metrics.get("embeddings"):
        facts["embeddings"] = f"{file['file']}, digest {file['digest'][:SHORT]}"
    if made := metrics.get("made"):
        facts["made"] = f"{made['date']}, mcl_jax {made['mcl_jax']}"
    return facts


def _words_of_embedding(embedding: Mapping[str, Any]) -> str:
    fixed = ("parts", "channels", "precision", "max_frames")
    choices = [f"{key}={value}" for key, value in embedding.items() if key not in fixed]
    size = f"{embedding['parts']} parts × {embedding['channels']} channels, {embedding['precision']}"
    return ", ".join([size, f"first {embedding['max_frames']} frames", *choices])


def lines_of_origin(metrics: Mapping[str, Any]) -> str:
    """Returns the last lines of a table: protocol, distance, and origin of the figures."""
    rerank = "" if metrics["rerank"] is None else ", re-ranked"
    facts = {"protocol": f"{metrics['protocol']}, {metrics['metric']}{rerank}"} | facts_of_origin(metrics)
    return "\n".join(f"{key:<11} {value}" for key, value in facts.items()) + "\n"
