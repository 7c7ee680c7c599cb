"""Reproduces a published run: dataset, weights, test, and comparison of the figures."""

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
from mcl_jax.data.fingerprint import fingerprint_of
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
from mcl_jax.hub.fetch import local_copy, public_name, published_of
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

# Keys that a user may set: paths, speed, and usual reasons for a difference.
_ALLOWED = (
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
_NOT_RECORDED = (
    "init_from",
    "data.root",
    "data.partition",
    "data.file",
    "eval.precision",
)  # paths, or recorded elsewhere


@dataclasses.dataclass(frozen=True)
class Task:
    """A run to reproduce.

    Attributes:
        name: name of the published run.
        recipe: name or file of its recipe.
        figures: group → figure → % as published.
        source: name, path or address of the weights; "" to train.
    """

    name: str
    recipe: str
    figures: Mapping[str, Mapping[str, float]]
    source: str


def task_of(name: str, *, model: str, training: bool) -> Task:
    """Returns the task for a published run.

    Args:
        name: recipe of the published run.
        model: weights to use instead of the published ones; "" for the published ones.
        training: whether to train instead of using weights.

    Raises:
        ConfigError: if there is no such run, or no weights of it.
    """
    entry = PUBLISHED.get(name)
    if entry is None and name not in RUNS:
        near = ", ".join(nearest_names(name)) or ", ".join(PUBLISHED)
        raise ConfigError(f"no run {name!r} is published; the nearest names: {near}")
    if training and model:
        raise ConfigError("--train and --model: give only one of them")
    if entry is None and not (training or model):
        raise ConfigError(
            f"{name}: no published checkpoint of this run is known; train one with --train, or give one "
            "with --model"
        )
    if entry is None:
        return Task(name, name, RUNS[name], model)
    return Task(name, entry.recipe, entry.figures, "" if training else model or name)


def reproduce(task: Task, config: ConfigDict, out: Path) -> dict[str, Any]:
    """Reproduces a published run, and writes reproduction.json and reproduction.md.

    Args:
        task: from `task_of`.
        config: its recipe with data.root set; only the keys in `_ALLOWED` may differ from the recipe.
        out: folder for parts/, test/, the records, and run/ if it is trained. With the same folder, an
            interrupted reproduction continues.

    Returns:
        The record.

    Raises:
        UserError: if dataset, weights or settings are unsuitable.
        PreemptedError: if training was stopped; the same command continues it.
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
    """Result of a test: metrics, weights and precision."""

    metrics: dict[str, Any]
    weights: dict[str, Any]
    precision: str


def _tested(source: str, config: ConfigDict, dataset: OpenDataset, out: Path) -> _Measured:
    split = dataset.test_split()
    look_at([split], skip=config.data.on_error == "skip")
    published = published_of(source) is not None
    place = local_copy(source)
    embedder, arrays, weights = load_embedder(config, place)
    digest = digest_of(embedder.model, *jax.device_get(arrays))
    on_devices = embedder.put(*arrays)
    data = fingerprint_of(split).digest
    parts = out / PARTS_FOLDER
    embeddings = embed_in_parts(config, embedder, on_devices, split, parts, digest=digest, data=data)
    origin = model_origin(config, embedder.model, digest, weights, embeddings)
    note = note_of_trained_people(config, weights.run, split)
    explain = page_maker(embedder.model, *on_devices, metric=config.eval.metric)
    metrics = write_report(config, out / TEST_FOLDER, dataset, embeddings, origin, note, explain=explain)
    about = {
        "source": place.name if place == Path(source) else public_name(source),
        "published": published,
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
        "published": False,
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
        sentence = (
            "Only the benchmark can score it: upload test/submission.zip to https://www.grew-benchmark.org."
        )
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
            **{key: value for key, value in _changed(task, config).items() if key not in _NOT_RECORDED},
        },
    }


def _changed(task: Task, config: ConfigDict) -> dict[str, Any]:
    """Returns the keys that differ from the recipe, with their values."""
    recipe = flat_keys(load_config(task.recipe))
    return {key: value for key, value in flat_keys(config).items() if recipe.get(key) != value}


def _require_recipe(task: Task, config: ConfigDict) -> None:
    """Checks that a config differs from the recipe only in allowed keys.

    Raises:
        ConfigError: naming the first key that would change the run.
    """
    validate(config)
    other = [key for key in _changed(task, config) if key not in _ALLOWED]
    if other:
        raise ConfigError(
            f"{other[0]}: changing it would not reproduce the published run; use `mcl-jax train` and `test`"
        )
