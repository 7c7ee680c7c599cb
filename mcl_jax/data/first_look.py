"""Quick check of all files before the first step of a run: does each open and have frames of a usable size?

Without it, a broken file might stop a run after days. Several threads read some bytes at both ends of each
pkl file; files found sound are remembered by name, size and modification time, and not opened again. Record
files are compared with their manifest when they are opened, so only some evenly spaced records are read here.
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
_RECORDS = 256  # max. number that is read: takes a fraction of a second


def look_at(splits: Sequence[Split], *, skip: bool) -> None:
    """Checks all pkl files of some splits, or some evenly spaced records.

    Args:
        splits: splits of one dataset.
        skip: whether unusable sequences are left out later; then they only cause a warning here.

    Raises:
        DataError: if files cannot be used and `skip` is False; with their number and the first one.
    """
    source = splits[0].source
    sequences = sorted({sequence for split in splits for sequence in split.sequences})
    if isinstance(source, PklSource):
        faults, scope = _faults_of_files(source, sequences), "sequences"
    elif isinstance(source, RecordsSource):
        sequences = sequences[:: max(1, -(-len(sequences) // _RECORDS))]
        faults, scope = _faults_of_records(source, sequences), "sequences checked"
    else:
        return
    if not faults:
        return
    found = f"{len(faults)} of {len(sequences)} {scope} cannot be used; the first: {faults[0]}"
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
    opened = copy.copy(source)  # so that `source` has no open file when workers start
    return [error for s in sequences if (error := _fault(opened.read, s)) is not None]


def _state(sequence: SequenceRef) -> str:
    """Returns size and modification time of a file, as text; "" if there is no file."""
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
    """Returns the states of files that were found sound before, by sequence."""
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
        logging.info("the list of sound files is not cached: %s", error)
