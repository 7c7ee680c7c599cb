"""A quick look at all files of a run before its first step: does each open, with a size that models take?

A broken file is drawn after minutes or after days. Of pkl files some bytes at either end are read, by several
threads; files that were found sound are known by name, size and time of change, and not opened again. Of
records, whose files are compared with their list when they are opened, an even choice is read.
"""

import copy
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from absl import logging

from mcl_jax.data.sequences import SequenceRef, Split
from mcl_jax.data.stores.array_record import RecordsSource
from mcl_jax.data.stores.tree import PklSource
from mcl_jax.errors import DataError, UserError
from mcl_jax.utils.digest import check_seal, sealed
from mcl_jax.utils.files import user_cache, write_atomically

_THREADS = 8
_RECORDS = 256  # looked at, at most: a fraction of a second


def look_at(splits: Sequence[Split], *, skip: bool) -> None:
    """Looks at all files of some splits, or at an even choice of their records.

    Args:
        splits: of one dataset.
        skip: whether what cannot be read is left out later, so that it is said and stops nothing.

    Raises:
        DataError: if files cannot be used and `skip` is not set: how many, and the first.
    """
    source = splits[0].source
    sequences = sorted({sequence for split in splits for sequence in split.sequences})
    if isinstance(source, PklSource):
        faults, looked_at = _faults_of_files(source, sequences), ""
    elif isinstance(source, RecordsSource):
        sequences = sequences[:: max(1, -(-len(sequences) // _RECORDS))]
        faults, looked_at = _faults_of_records(source, sequences), " looked at"
    else:
        return
    if not faults:
        return
    found = f"{len(faults)} of {len(sequences)} sequences{looked_at} cannot be used; the first: {faults[0]}"
    if not skip:
        raise DataError(f"{found}; --config.data.on_error=skip leaves such sequences out")
    logging.warning("%s; they are left out", found)


def _faults_of_files(source: PklSource, sequences: Sequence[SequenceRef]) -> list[DataError]:
    with ThreadPoolExecutor(_THREADS) as pool:
        states = list(pool.map(_state, sequences))
        known = _known(sequences)
        changed = [s for s, state in zip(sequences, states, strict=True) if state != known.get(s.key)]
        faults = [error for error in pool.map(lambda s: _fault(source.look, s), changed) if error is not None]
    if changed and not faults:
        _remember(sequences, states)
    return faults


def _faults_of_records(source: RecordsSource, sequences: Sequence[SequenceRef]) -> list[DataError]:
    opened = copy.copy(source)  # so that no file is open when workers are started
    return [error for s in sequences if (error := _fault(opened.read, s)) is not None]


def _state(sequence: SequenceRef) -> str:
    """Returns size and time of change of a file, as text; "" if there is none."""
    try:
        status = os.stat(sequence.location)  # noqa: PTH116 - a Path takes longer than the call
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"


def _fault(look: Callable[[SequenceRef], object], sequence: SequenceRef) -> DataError | None:
    try:
        look(sequence)
    except DataError as error:
        return error
    return None


def _cache(sequences: Sequence[SequenceRef]) -> Path:
    folder = os.path.commonpath([sequence.location for sequence in sequences])
    return user_cache() / f"sound-{hashlib.sha256(os.path.realpath(folder).encode()).hexdigest()[:32]}.json"


def _known(sequences: Sequence[SequenceRef]) -> dict[str, str]:
    """Returns the states in which sequences were found sound before."""
    try:
        content = json.loads(_cache(sequences).read_bytes())
        return dict(content["states"]) if check_seal(content) else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def _remember(sequences: Sequence[SequenceRef], states: Sequence[str]) -> None:
    content = {"states": {s.key: state for s, state in zip(sequences, states, strict=True)}}
    try:
        write_atomically(_cache(sequences), json.dumps(sealed(content), separators=(",", ":")).encode())
    except UserError as error:
        logging.info("which files are sound is not kept: %s", error)
