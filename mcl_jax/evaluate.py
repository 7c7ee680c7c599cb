"""Tests a model: embeddings of the test split, the dataset's protocol, the report."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from mcl_jax.build import build_dataset, build_embedder, trained_block
from mcl_jax.config import NO_PROTOCOL, model_block, write_config
from mcl_jax.data.datasets import DATASETS, OpenDataset
from mcl_jax.data.feed.loaders import SequenceLoader
from mcl_jax.data.fingerprint import fingerprint_of
from mcl_jax.data.first_look import look_at
from mcl_jax.data.sequences import Split
from mcl_jax.embed import Embedder, labelled
from mcl_jax.errors import CheckpointError, DataError
from mcl_jax.evaluation.embeddings import EmbeddingSet
from mcl_jax.evaluation.origin import DataOrigin, ModelOrigin, Origin
from mcl_jax.evaluation.protocol_file import SUFFIX, find_protocol
from mcl_jax.evaluation.protocols import Protocol
from mcl_jax.evaluation.report import clear_report, score
from mcl_jax.evaluation.roles import assign_roles
from mcl_jax.explanation.confusions import PageMaker, page_maker
from mcl_jax.models.registry import Model, digest_of, model_class
from mcl_jax.utils.extras import require_extra
from mcl_jax.utils.pytrees import ArrayTree
from mcl_jax.weights.load import (
    WeightsSource,
    average_of,
    fit,
    has_average,
    is_average,
    load_weights,
    run_of,
    source_of,
)
from mcl_jax.workdir.checkpoints import AVERAGE, FOLDER
from mcl_jax.workdir.lock import held
from mcl_jax.workdir.test_folder import TEST_FOLDER, TestSubject, folder_of_test
from mcl_jax.workdir.trained_on import trained_people

TEST_LOCK = "test.lock"


class NotScoredError(DataError):
    """The embeddings were written, but the protocol does not fit the data."""


def test(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Tests `init_from`, or the checkpoint of `eval.step` in workdir, or its newest.

    The results are in WORKDIR/test, but of what is no test of the newest checkpoint of the run on its own
    data, in a folder beside it: see `mcl_jax.workdir.test_folder`. The sizes of the model are those of the
    checkpoint.

    Args:
        config: a valid config, see `mcl_jax.config.validate`.
        workdir: of the training run, or where to write.

    Returns:
        The metrics; if the checkpoint of the run has averaged weights, theirs as `average`.

    Raises:
        UserError: for anything the user can mend: config, data, checkpoints.
    """
    dataset = open_test_data(config)  # fails now, not after the weights are read
    path = _checkpoint_of(workdir, config.eval.step) if config.eval.step else config.init_from or workdir
    tested, source = _test(config, workdir, path, dataset)
    if path == config.init_from or not has_average(source):
        return tested
    return joined_tests(tested, _test(config, workdir, average_of(path), dataset)[0])


def joined_tests(tested: dict[str, Any], average: dict[str, Any]) -> dict[str, Any]:
    """Returns the metrics of a test with those of the averaged weights; nothing if there are none."""
    return tested | {AVERAGE: average} if tested else tested


def all_scores(tested: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Returns the scores of a test by group; those of averaged weights under `average-GROUP`."""
    scores = dict(tested.get("scores", {}))
    average = tested.get(AVERAGE, {}).get("scores", {})
    return scores | {f"{AVERAGE}-{group}": figures for group, figures in average.items()}


def _test(
    config: ConfigDict, workdir: Path, path: str | Path, dataset: OpenDataset
) -> tuple[dict[str, Any], WeightsSource]:
    folder = folder_of_test(workdir, subject_of_test(config, path, dataset))
    embedder, arrays, source = load_embedder(config, path)
    own = workdir if folder == workdir / TEST_FOLDER else folder
    write_config(config, own / "config_test.json")
    return evaluate(config, folder, dataset, embedder, *arrays, source=source), source


def open_test_data(config: ConfigDict) -> OpenDataset:
    """Returns the dataset of a config, once its test split is known to be there, readable and scorable.

    Raises:
        DataError: if it is not.
    """
    dataset = build_dataset(config)
    split = require_scorable(config, dataset)
    look_at([split], skip=config.data.on_error == "skip")
    return dataset


def load_embedder(
    config: ConfigDict, path: str | Path
) -> tuple[Embedder, tuple[ArrayTree, ArrayTree], WeightsSource]:
    """Returns the embedder of trained weights, their parameters and statistics, and where they come from.

    Args:
        config: says which model is expected, and how it is tested.
        path: as of `load_weights`.

    Raises:
        CheckpointError: if there are none, they are damaged, or of another model.
    """
    weights = load_weights(path, model_block(config))
    block = trained_block(config, weights.block, weights.source, strict=False)
    embedder = build_embedder(config, block)
    arrays = fit(weights, embedder.model, *embedder.model.shapes())
    return embedder, arrays, source_of(path, weights.step)


def subject_of_test(config: ConfigDict, path: str | Path, dataset: OpenDataset) -> TestSubject:
    """Returns what a test is of, to find its folder."""
    run, step = run_of(path)
    split = dataset.test_split()
    root, average = Path(config.data.root), is_average(path)
    return TestSubject(run, step, config.data.dataset, root, lambda: fingerprint_of(split).digest, average)


def require_scorable(config: ConfigDict, dataset: OpenDataset) -> Split:
    """Returns the test split, if there is one that the protocol fits; no pixel is read.

    Raises:
        DataError: if there is none, or people, conditions or lists are not those of the protocol.
    """
    split = dataset.test_split()
    protocol = _protocol_of(config)
    if protocol is not None:
        labels = labelled(np.zeros((len(split.sequences), 1, 1), np.float32), split.sequences)
        partition = dataset.partition
        try:
            assign_roles(protocol, labels, partition.probe_set, partition.gallery_set, say=False)
        except DataError as error:
            raise DataError(
                f"the test split cannot be scored: {error}; --config.eval.protocol=none writes embeddings"
            ) from None
    return split


def _checkpoint_of(workdir: Path, step: int) -> Path:
    """Returns the folder of a checkpoint in workdir.

    Raises:
        CheckpointError: if it is not there, naming those that are.
    """
    folder = workdir / FOLDER
    steps = sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())
    if step not in steps:
        there = f"there are those of {', '.join(map(str, steps))}" if steps else "there is none"
        raise CheckpointError(f"eval.step: {folder} has no checkpoint of step {step}; {there}")
    return folder / str(step)


def evaluate(
    config: ConfigDict,
    folder: Path,
    dataset: OpenDataset,
    embedder: Embedder,
    params: ArrayTree,
    batch_stats: ArrayTree,
    *,
    source: WeightsSource,
) -> dict[str, Any]:
    """Embeds the test split and writes embeddings.npz, metrics.json, table.txt and pictures into a folder.

    Args:
        config: a valid config.
        folder: where to write.
        dataset: whose test split it is.
        embedder: of the model.
        params: its parameters.
        batch_stats: its running statistics.
        source: where they were read from; a run knows the people it was trained on.

    Returns:
        The content of metrics.json; empty where nothing is scored: with protocol "none", and on hosts other
        than the first.

    Raises:
        DataError: if a sequence cannot be read.
        NotScoredError: if the protocol does not fit the data; the embeddings, which took the time, are kept.
        UserError: if another test writes into the folder.
    """
    require_extra("report", "a test with its report")
    with held(folder.with_name(TEST_LOCK)):  # one file, however many tests a run makes on its way
        return _evaluate(config, folder, dataset, embedder, params, batch_stats, source)


def _evaluate(
    config: ConfigDict,
    folder: Path,
    dataset: OpenDataset,
    embedder: Embedder,
    params: ArrayTree,
    batch_stats: ArrayTree,
    source: WeightsSource,
) -> dict[str, Any]:
    split = dataset.test_split()
    logging.info("testing on %d sequences of %d subjects", len(split.sequences), len(split.subjects))
    note = note_of_trained_people(config, source.run, split)
    if source.is_average:
        note = f"Of the weights averaged over training. {note}".rstrip()
    embeddings = embed_test(config, embedder, (params, batch_stats), split)
    if jax.process_index() != 0:
        return {}
    digest = digest_of(embedder.model, *jax.device_get((params, batch_stats)))
    origin = model_origin(config, embedder.model, digest, source, embeddings)
    explain = page_maker(embedder.model, params, batch_stats, metric=config.eval.metric)
    return write_report(config, folder, dataset, embeddings, origin, note, explain=explain)


def embed_test(
    config: ConfigDict, embedder: Embedder, arrays: tuple[ArrayTree, ArrayTree], split: Split
) -> EmbeddingSet:
    """Returns the embeddings of sequences, read as a config says.

    Args:
        config: a valid config.
        embedder: of the model.
        arrays: its parameters and running statistics.
        split: the sequences.

    Raises:
        DataError: if a sequence cannot be read.
    """
    return embedder.embed_split(
        *arrays,
        split,
        workers=config.data.workers,
        timeout=config.data.timeout,
        max_frames=config.eval.max_frames,
        skip_unreadable=config.data.on_error == "skip",
    )


def write_report(
    config: ConfigDict,
    folder: Path,
    dataset: OpenDataset,
    embeddings: EmbeddingSet,
    origin: ModelOrigin,
    note: str = "",
    *,
    explain: PageMaker,
) -> dict[str, Any]:
    """Scores the embeddings of the test split, and writes them and the report into a folder.

    Args:
        config: a valid config.
        folder: where to write.
        dataset: whose test split it is.
        embeddings: of its sequences that could be read.
        origin: the weights that embedded them.
        note: what a reader of the figures must know; "" for nothing.
        explain: makes the pages of the worst confusions, `eval.explain` of them.

    Returns:
        The content of metrics.json; empty with protocol "none".

    Raises:
        NotScoredError: if the protocol does not fit the data; the embeddings, which took the time, are kept.
    """
    split = dataset.test_split()
    folder.mkdir(parents=True, exist_ok=True)
    clear_report(folder)
    embeddings.save(folder / "embeddings.npz")
    protocol = _protocol_of(config)
    if protocol is None:
        print(f"embeddings written to {folder}/")
        return {}
    try:
        report = score(
            embeddings,
            protocol,
            metric=config.eval.metric,
            probe_set=dataset.partition.probe_set,
            gallery_set=dataset.partition.gallery_set,
            rerank=protocol.rerank if config.eval.rerank else None,
        )
        if note:
            report.note(note)
        unreadable = len(split.sequences) - len(embeddings)
        report.metrics["counts"]["unreadable"] = unreadable
        if unreadable:
            report.note(f"Without {unreadable} sequences that cannot be read.")
        report.add_origin(**Origin(origin, _data_origin(config, split)).blocks())
        names = (embeddings.subjects, embeddings.conditions, embeddings.views)
        scored = set(zip(*(array.tolist() for array in names), strict=True))
        read = [s for s in split.sequences if (s.subject, s.condition, s.view) in scored]
        loader = SequenceLoader(read, split.source, config.eval.max_frames, frame_shape=split.frame_shape)
        most = config.eval.explain
        pages = explain(embeddings, loader.read) if most else None
        report.write(folder, silhouettes=loader.read, explain=pages, explained=most)
    except DataError as error:
        raise NotScoredError(
            f"not scored: {error}; the embeddings are in {folder}/, for scripts/score_embeddings.py"
        ) from None
    print(report.table)
    print(f"written to {folder}/")
    return report.metrics


def model_origin(
    config: ConfigDict,
    model: Model,
    digest: str,
    source: WeightsSource,
    embeddings: EmbeddingSet,
) -> ModelOrigin:
    """Returns the origin of a result for metrics.json.

    Args:
        config: of the test.
        model: that embedded.
        digest: `digest_of` the model with its weights.
        source: where they were read from.
        embeddings: those of the test.
    """
    _, parts, channels = embeddings.embeddings.shape
    embedding = {
        "parts": parts,
        "channels": channels,
        "precision": model.dtype,
        "max_frames": config.eval.max_frames,
        **{key: model.arguments[key] for key in model_class(model.name).CHOICES},
    }
    return ModelOrigin(model.name, digest, str(source.path), source.step, embedding)


def _data_origin(config: ConfigDict, split: Split) -> DataOrigin:
    root = str(Path(config.data.root).absolute())
    return DataOrigin(config.data.dataset, root, fingerprint_of(split).digest)


def note_of_trained_people(config: ConfigDict, run: Path, split: Split) -> str:
    """Returns, and logs, that the model was trained on people it is tested on; "" where it was not."""
    known = trained_people(run, config.data.dataset, split)
    if not known:
        return ""
    note = (
        f"Trained on {len(known)} of the {len(split.subjects)} people tested here, such as {known[0]!r}: the "
        "figures do not say how well strangers are told apart."
    )
    logging.warning("%s", note)
    return note


def _protocol_of(config: ConfigDict) -> Protocol | None:
    """Returns the protocol of the config, else that of its dataset; None where nothing is to be scored."""
    known = DATASETS[config.data.dataset]
    name = config.eval.protocol or known.protocol
    if name == NO_PROTOCOL:
        return None
    protocol = find_protocol(name)
    own = config.eval.protocol.endswith(SUFFIX)
    if known.title and not own:  # else the titles would name the people that the protocol was made for
        return dataclasses.replace(protocol, data=known.title)
    return protocol
