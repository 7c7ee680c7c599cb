"""Measures a published run again: its dataset, its weights, its test, and the comparison."""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from mcl_jax.build import build_dataset
from mcl_jax.config import load_config, validate
from mcl_jax.data.datasets import OpenDataset
from mcl_jax.data.first_look import look_at
from mcl_jax.errors import ConfigError
from mcl_jax.evaluate import (
    load_embedder,
    model_origin,
    note_of_trained_people,
    require_scorable,
    write_report,
)
from mcl_jax.evaluation.protocols import PROTOCOLS
from mcl_jax.explanation.confusions import page_maker
from mcl_jax.hub.fetch import local_copy
from mcl_jax.hub.published import PUBLISHED, RUNS, nearest_names
from mcl_jax.models.registry import digest_of, model_class
from mcl_jax.reproduction import verdict as verdicts
from mcl_jax.reproduction.dataset_facts import Finding, compare_dataset, describe_frames
from mcl_jax.reproduction.embedding_parts import embed_in_parts
from mcl_jax.reproduction.record import surroundings, write_record
from mcl_jax.runtime.preemption import Preemption
from mcl_jax.runtime.settings import testing_precision
from mcl_jax.train_loop import train
from mcl_jax.utils.digest import file_digest
from mcl_jax.utils.extras import require_extra
from mcl_jax.utils.pytrees import flat_keys
from mcl_jax.workdir.location import check_workdir
from mcl_jax.workdir.lock import held
from mcl_jax.workdir.test_folder import TEST_FOLDER

RUN_FOLDER, PARTS_FOLDER = "run", "parts"

# What may be set: where data lie, how fast it goes, and the usual reasons of a difference.
_FREE = (
    "init_from",
    "data.root",
    "data.partition",
    "data.format",
    "data.file",
    "data.workers",
    "data.timeout",
    "data.on_error",
    "train.row_sizes",
    "train.remat",
    "train.log_every",
    "train.save_every",
    "train.keep",
    "eval.rows",
    "eval.slots",
    "eval.precision",
    "model.use_emb2",
)
_NOT_TOLD = (
    "init_from",
    "data.root",
    "data.partition",
    "data.file",
    "eval.precision",
)  # paths, or told apart


@dataclasses.dataclass(frozen=True)
class Task:
    """A run to reproduce.

    Attributes:
        name: of the published run.
        recipe: name or file of its recipe.
        figures: group → figure → % as published.
        source: the weights: name, path or address; "" to train.
    """

    name: str
    recipe: str
    figures: Mapping[str, Mapping[str, float]]
    source: str


def task_of(name: str, *, model: str, training: bool) -> Task:
    """Returns what a name asks for.

    Args:
        name: of a recipe whose run is published.
        model: weights to take in place of the published ones; "" for those.
        training: whether to train in place of taking weights.

    Raises:
        ConfigError: if there is no such run, or no weights of it.
    """
    entry = PUBLISHED.get(name)
    if entry is None and name not in RUNS:
        near = ", ".join(nearest_names(name)) or ", ".join(PUBLISHED)
        raise ConfigError(f"no run {name!r} is published; the nearest names: {near}")
    if training and model:
        raise ConfigError("--train and --model: give one of them, the weights are trained or taken")
    if entry is None and not (training or model):
        raise ConfigError(
            f"{name}: no checkpoint of this run is published where we know it; --train trains one, --model "
            "takes one"
        )
    if entry is None:
        return Task(name, name, RUNS[name], model)
    return Task(name, entry.recipe, entry.figures, "" if training else model or name)


def reproduce(task: Task, config: ConfigDict, out: Path) -> dict[str, Any]:
    """Measures a published run again, and writes reproduction.json and reproduction.md.

    Args:
        task: from `task_of`.
        config: its recipe with data.root set; beside it only `_FREE` may differ.
        out: gets parts/, test/ and the records, and run/ where it is trained; the same folder goes on.

    Returns:
        The record.

    Raises:
        UserError: for anything the user can mend: dataset, weights, settings.
        PreemptedError: training was asked to end; the same command goes on.
    """
    _require_recipe(task, config)
    check_workdir(out, config.data.root)
    require_extra("report", "a reproduction")
    started = time.monotonic()
    dataset = build_dataset(config)
    findings = compare_dataset(dataset, train=not task.source)
    split = require_scorable(config, dataset)
    for finding in findings:
        print(finding, flush=True)
    frames = describe_frames(split)
    print(f"frames: {frames}", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    with held(out / "reproduction.lock"):
        measured = _trained(config, out) if not task.source else _tested(task.source, config, dataset, out)
        record = _record(task, config, dataset.name, findings, frames, measured)
        record |= {"seconds": round(time.monotonic() - started), **surroundings()}
        write_record(out, record)
    return record


@dataclasses.dataclass(frozen=True)
class _Measured:
    """The metrics of a test, of which weights, and in which precision."""

    metrics: dict[str, Any]
    weights: dict[str, Any]
    precision: str


def _tested(source: str, config: ConfigDict, dataset: OpenDataset, out: Path) -> _Measured:
    split = dataset.test_split()
    look_at([split], skip=config.data.on_error == "skip")
    place = local_copy(source)
    embedder, arrays, weights = load_embedder(config, place)
    digest = digest_of(embedder.model, *jax.device_get(arrays))
    on_devices = embedder.put(*arrays)
    embeddings = embed_in_parts(config, embedder, on_devices, split, out / PARTS_FOLDER, digest=digest)
    origin = model_origin(config, embedder.model, digest, weights, embeddings)
    note = note_of_trained_people(config, weights.run, split)
    explain = page_maker(embedder.model, *on_devices, metric=config.eval.metric)
    metrics = write_report(config, out / TEST_FOLDER, dataset, embeddings, origin, note, explain=explain)
    about = {
        "source": source if place != Path(source) else place.name,
        "file_sha256": file_digest(place) if place.is_file() else "",
        "digest": digest,
        "model": embedder.model.name,
        "step": weights.step,
        "trained_here": False,
    }
    return _Measured(metrics, about, embedder.model.dtype)


def _trained(config: ConfigDict, out: Path) -> _Measured:
    with Preemption() as preemption:
        metrics = train(config, out / RUN_FOLDER, preemption=preemption)
    about = {
        "source": "trained by this command",
        "file_sha256": "",
        "digest": metrics["model"]["digest"],
        "model": metrics["model"]["name"],
        "step": config.train.steps,
        "trained_here": True,
    }
    return _Measured(metrics, about, testing_precision(config.eval.precision))


def _record(
    task: Task, config: ConfigDict, dataset: str, findings: list[Finding], frames: str, measured: _Measured
) -> dict[str, Any]:
    metrics = measured.metrics
    rows = verdicts.compare(task.figures, metrics.get("scores", {}))
    reproduced, sentence = verdicts.verdict(rows)
    if PROTOCOLS[metrics["protocol"]].submit:
        sentence = "Its benchmark scores it: upload test/submission.zip to https://www.grew-benchmark.org."
    reasons = []
    if reproduced is False:
        reasons = verdicts.usual_reasons(
            [str(finding) for finding in findings if finding.differs],
            unreadable=metrics["counts"].get("unreadable", 0),
            partition=bool(config.data.partition),
            other_embedding="use_emb2" in model_class(config.model.name).CHOICES,
            precision=measured.precision,
        )
    return {
        "name": task.name,
        "reproduced": reproduced,
        "verdict": sentence,
        "reasons": reasons,
        "figures": [
            {
                **dataclasses.asdict(row),
                "difference": None if row.difference is None else round(row.difference, 4),
            }
            for row in rows
        ],
        "protocol": metrics["protocol"],
        "metric": metrics["metric"],
        "counts": metrics["counts"],
        "dataset": {"name": dataset, "findings": [str(finding) for finding in findings], "frames": frames},
        "weights": measured.weights,
        "settings": {
            "precision": measured.precision,
            **{key: value for key, value in _changed(task, config).items() if key not in _NOT_TOLD},
        },
    }


def _changed(task: Task, config: ConfigDict) -> dict[str, Any]:
    """Returns the keys that differ from the recipe, with their values."""
    recipe = flat_keys(load_config(task.recipe))
    return {key: value for key, value in flat_keys(config).items() if recipe.get(key) != value}


def _require_recipe(task: Task, config: ConfigDict) -> None:
    """Checks that a config is the recipe but for what may be set.

    Raises:
        ConfigError: naming the first key that would make another run of it.
    """
    validate(config)
    other = [key for key in _changed(task, config) if key not in _FREE]
    if other:
        raise ConfigError(
            f"{other[0]}: would make another run than the published one; `mcl-jax train` and `test` take it"
        )
