"""Embeds a test set in saved parts, so that an interrupted run can continue."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from mcl_jax.data.sequences import Split
from mcl_jax.embed import Embedder
from mcl_jax.errors import ConfigError, DataError
from mcl_jax.evaluate import embed_test
from mcl_jax.evaluation.embeddings import KEYS, EmbeddingSet
from mcl_jax.utils.digest import canonical
from mcl_jax.utils.files import read_bounded, write_atomically
from mcl_jax.utils.pytrees import ArrayTree

PART = 4096
"""Sequences in a part: takes minutes on a CPU, and gives few enough files for the largest test set."""

_RECORD = "parts.json"
_MAX_BYTES = 2**16


def embed_in_parts(
    config: ConfigDict,
    embedder: Embedder,
    arrays: tuple[ArrayTree, ArrayTree],
    split: Split,
    folder: Path,
    *,
    digest: str,
    data: str,
    size: int = PART,
) -> EmbeddingSet:
    """Returns the embeddings of a split; complete parts saved in the folder are not computed again.

    A part from which unreadable sequences were left out is computed again: they may have been repaired.

    Args:
        config: settings for reading sequences, and the number of frames used.
        embedder: embedder of the model.
        arrays: its parameters and running statistics.
        split: all sequences.
        folder: folder for a file of each part.
        digest: digest of the model.
        data: digest of the data, see `mcl_jax.data.fingerprint`.
        size: number of sequences in a part.

    Raises:
        ConfigError: if the folder has parts of another model, precision or dataset.
        DataError: if a sequence cannot be read.
    """
    _claim(folder, _key(config, embedder, digest, data, size))
    parts = []
    for number, start in enumerate(range(0, len(split.sequences), size)):
        some = dataclasses.replace(split, sequences=split.sequences[start : start + size])
        path = folder / f"part-{number:05d}.npz"
        part = _kept(path, len(some.sequences))
        if part is None:
            part = embed_test(config, embedder, arrays, some)
            part.save(path)
        parts.append(part)
    return EmbeddingSet(**{key: np.concatenate([getattr(part, key) for part in parts]) for key in KEYS})


def _kept(path: Path, sequences: int) -> EmbeddingSet | None:
    if not path.exists():
        return None
    try:
        part = EmbeddingSet.load(path)
    except DataError as error:
        logging.warning("%s; embedding this part again", error)
        return None
    return part if len(part) == sequences else None


def _key(config: ConfigDict, embedder: Embedder, digest: str, data: str, size: int) -> dict[str, Any]:
    """Returns the values that determine the embeddings in each part."""
    return {
        "model": digest,
        "precision": embedder.model.dtype,
        "max_frames": config.eval.max_frames,
        "on_error": config.data.on_error,
        "data": data,
        "size": size,
    }


def _claim(folder: Path, key: dict[str, Any]) -> None:
    """Records the key of a folder's parts, or compares it with the recorded one.

    Raises:
        ConfigError: if the keys differ.
    """
    record = folder / _RECORD
    if not record.exists():
        write_atomically(record, json.dumps(key, indent=1).encode())
        return
    try:
        before = json.loads(read_bounded(record, _MAX_BYTES))
        same = canonical(before) == canonical(key)
        changed = ", ".join(name for name in key if before.get(name) != key[name])
    except (OSError, ValueError, AttributeError, RecursionError):
        same, changed = False, "its record is damaged"
    if not same:
        raise ConfigError(
            f"{folder}: has embeddings of another test ({changed}); give another folder with --out"
        )
