"""Records the training data of a run, so that it cannot continue with other data unnoticed.

Every checkpoint holds digests of its training data, which decide. The file holds the names, so that an error
can describe the difference.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import logging

from mcl_jax.data.fingerprint import DataFingerprint, differences, kinds_of_difference, known_people
from mcl_jax.data.sequences import Split
from mcl_jax.utils.files import read_bounded, write_atomically

TRAINED_ON = "trained_on.json"

_MAX_BYTES = 2**28  # same limit as for a manifest of records: fifty times the largest dataset


def data_changes(now: DataFingerprint, workdir: Path, stored: Mapping[str, str] | None) -> list[str]:
    """Returns how the data differ from the data that a run was trained on so far.

    Args:
        now: fingerprint of the data to continue with.
        workdir: folder of the run.
        stored: digests in its newest checkpoint; None for a checkpoint of an older version without any.
    """
    named = _read(workdir)
    if stored is None and named is None:
        logging.info("the checkpoint has no record of its training data; the data are assumed to be the same")
        return []
    # Only the file has changes that were accepted but not yet part of a checkpoint.
    if now.digests in (stored, named and named.digests):
        return []
    if named is not None and stored in (None, named.digests):
        return differences(named, now)
    return kinds_of_difference(stored or {}, now)


def trained_people(workdir: Path, dataset: str, split: Split) -> tuple[str, ...]:
    """Returns the people of a split that a run was ever trained on, also before accepted changes.

    Args:
        workdir: folder of the run.
        dataset: name of the split's dataset.
        split: the test split.
    """
    people: set[str] = set()
    for content in _records(workdir):
        # Runs of earlier versions do not record the dataset; their frames identify it.
        if content.get("dataset", dataset) == dataset and (before := _fingerprint(content)) is not None:
            people.update(known_people(before, split))
    return tuple(sorted(people))


def has_same_people(workdir: Path, people: Sequence[str]) -> bool:
    """Whether a run was certainly trained on these people, in this order of classes."""
    before = _read(workdir)
    return before is not None and before.people == tuple(people)


def write_trained_on(now: DataFingerprint, workdir: Path, dataset: str) -> None:
    """Writes the file if it is missing or describes other data; only the first host writes.

    Its old content is kept under "earlier".

    Args:
        now: fingerprint of the data to continue with.
        workdir: folder of the run.
        dataset: name of the dataset.

    Raises:
        UserError: if it cannot be written.
    """
    if jax.process_index() != 0:
        return
    before = _read(workdir)
    if before is not None and before.digests == now.digests:
        return
    content = {
        "dataset": dataset,
        "people": now.people,
        "sequences": now.sequences,
        "contents": dict(now.contents),
        "digests": now.digests,
        "earlier": _records(workdir),
    }
    write_atomically(workdir / TRAINED_ON, json.dumps(content, separators=(",", ":")).encode())


def _read(workdir: Path) -> DataFingerprint | None:
    """Returns the content of the file; None if it is missing, damaged or changed."""
    path = workdir / TRAINED_ON
    if not path.exists():
        return None
    found = next((_fingerprint(content) for content in _records(workdir)), None)
    if found is None:
        logging.warning("%s: is damaged; using the checkpoints' own digests", path)
    return found


def _records(workdir: Path) -> list[dict[str, Any]]:
    """Returns the file's records, those of the newest data first; none if it cannot be read."""
    try:
        content = json.loads(read_bounded(workdir / TRAINED_ON, _MAX_BYTES))
        earlier = content.pop("earlier", [])
        return [record for record in (content, *earlier) if isinstance(record, dict)]
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return []


def _fingerprint(content: Mapping[str, Any]) -> DataFingerprint | None:
    """Returns the fingerprint in a record; None if it is damaged or changed."""
    try:
        sequences = tuple((str(s), str(c), str(v)) for s, c, v in content["sequences"])
        found = DataFingerprint(tuple(content["people"]), sequences, dict(content["contents"]))
        return found if found.digests == content["digests"] else None
    except (ValueError, KeyError, TypeError):
        return None
