"""Records the training data of a run, so that it does not go on with other data unnoticed.

Every checkpoint holds the digests of what it was trained on, which decide; the file has the names, so that
a difference can be described.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import jax
from absl import logging

from mcl_jax.data.fingerprint import DataFingerprint, differences, kinds_of_difference
from mcl_jax.utils.files import read_bounded, write_atomically

TRAINED_ON = "trained_on.json"

_MAX_BYTES = 2**28  # as a manifest of records, fifty times the largest dataset


def data_changes(now: DataFingerprint, workdir: Path, stored: Mapping[str, str] | None) -> list[str]:
    """Returns how the data differ from those that a run was trained on before.

    Args:
        now: of the data to go on with.
        workdir: of the run.
        stored: the digests in its newest checkpoint; None for one of an older version, which has none.
    """
    named = _read(workdir)
    if stored is None and named is None:
        logging.info("the checkpoint does not say what it was trained on; the data are taken to be the same")
        return []
    # The file alone has changes that were accepted, but not yet trained on up to a save.
    if now.digests in (stored, named and named.digests):
        return []
    if named is not None and stored in (None, named.digests):
        return differences(named, now)
    return kinds_of_difference(stored or {}, now)


def write_trained_on(now: DataFingerprint, workdir: Path) -> None:
    """Writes the file where it is missing or of other data; only the first host does.

    Raises:
        UserError: if it cannot be written.
    """
    if jax.process_index() != 0:
        return
    before = _read(workdir)
    if before is not None and before.digests == now.digests:
        return
    content = {
        "people": now.people,
        "sequences": now.sequences,
        "contents": dict(now.contents),
        "digests": now.digests,
    }
    write_atomically(workdir / TRAINED_ON, json.dumps(content, separators=(",", ":")).encode())


def _read(workdir: Path) -> DataFingerprint | None:
    """Returns what the file says; None if it is missing, damaged or changed."""
    path = workdir / TRAINED_ON
    if not path.exists():
        return None
    try:
        content = json.loads(read_bounded(path, _MAX_BYTES))
        sequences = tuple((str(s), str(c), str(v)) for s, c, v in content["sequences"])
        found = DataFingerprint(tuple(content["people"]), sequences, dict(content["contents"]))
        if found.digests == content["digests"]:
            return found
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    logging.warning("%s: is damaged; the checkpoints' own digests are used", path)
    return None
