"""Fingerprint of training or test data: people in order, sequences, and the pixels of some of them."""

import dataclasses
import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from mcl_jax.data.feed.augment import cut
from mcl_jax.data.sequences import SequenceRef, Source, Split
from mcl_jax.errors import DataError
from mcl_jax.utils.digest import canonical
from mcl_jax.utils.terminal import count

_SAMPLED = 32  # max. number of sequences whose pixels are read
_UNREADABLE = ""


@dataclasses.dataclass(frozen=True)
class DataFingerprint:
    """Identifies a set of sequences, independent of its folder and file format.

    Attributes:
        people: names in the order of their classes.
        sequences: subject, condition and view of each sequence, sorted.
        contents: name of a sampled sequence → digest of its frames; "" if it could not be read.
    """

    people: tuple[str, ...]
    sequences: tuple[tuple[str, str, str], ...]
    contents: Mapping[str, str]

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each attribute."""
        plain = dataclasses.asdict(self)
        return {
            key: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
            for key, value in plain.items()
        }

    @property
    def digest(self) -> str:
        """SHA-256 of the whole fingerprint."""
        return hashlib.sha256(canonical(self.digests)).hexdigest()


def fingerprint_of(split: Split) -> DataFingerprint:
    """Returns the fingerprint of a split; at most `_SAMPLED` sequences are read."""
    total = len(split.sequences)
    places = np.unique(np.linspace(0, total - 1, min(total, _SAMPLED)).round().astype(int))
    sampled = [split.sequences[place] for place in places]
    return DataFingerprint(
        people=split.subjects,
        sequences=tuple((s.subject, s.condition, s.view) for s in split.sequences),
        contents={sequence.key: _digest(split.source, sequence) for sequence in sampled},
    )


def known_people(before: DataFingerprint, split: Split) -> tuple[str, ...]:
    """Returns the people of a split who are also in a training set.

    Names alone prove nothing: any dataset may have a '001'. So the frames of sequences in both are compared,
    if the fingerprint has their digests; if all differ, these are other people with the same names.
    """
    both = tuple(sorted(set(before.people) & set(split.subjects)))
    here = {sequence.key: sequence for sequence in split.sequences} if both else {}
    sampled = [(here[key], digest) for key, digest in before.contents.items() if digest and key in here]
    same = not sampled or any(_digest(split.source, sequence) == digest for sequence, digest in sampled)
    return both if same else ()


def differences(before: DataFingerprint, now: DataFingerprint) -> list[str]:
    """Returns a line with an example for each kind of difference; none if the data are the same."""
    people, now_people = set(before.people), set(now.people)
    lines = _missing_and_new("person", "people", people, now_people)
    both = people & now_people
    of_both = " (of people in both)" if lines else ""
    lines += _missing_and_new(
        f"sequence{of_both}",
        f"sequences{of_both}",
        {"/".join(names) for names in before.sequences if names[0] in both},
        {"/".join(names) for names in now.sequences if names[0] in both},
    )
    compared = [
        key for key, digest in before.contents.items() if digest and now.contents.get(key, _UNREADABLE)
    ]
    changed = [key for key in compared if before.contents[key] != now.contents[key]]
    if changed:
        lines.append(f"frames changed in {len(changed)} of {len(compared)} sequences, such as {changed[0]}")
    return lines


def kinds_of_difference(before: Mapping[str, Any], now: DataFingerprint) -> list[str]:
    """Lists the kinds of differences when only the digests of the earlier data are known."""
    words = {"people": "other people", "sequences": "other sequences", "contents": "other frames"}
    return [words[kind] for kind, digest in now.digests.items() if before.get(kind) != digest]


def _missing_and_new(one: str, many: str, before: Collection[str], now: Collection[str]) -> list[str]:
    missing, new = sorted(set(before) - set(now)), sorted(set(now) - set(before))
    return [
        f"{count(len(names), one, many)} {change}, such as {names[0]!r}"
        for names, change in ((missing, "missing"), (new, "new"))
        if names
    ]


def _digest(source: Source, sequence: SequenceRef) -> str:
    try:
        frames = cut(np.asarray(source.read(sequence)[:]))
    except DataError:  # reported, or skipped, when a batch needs the sequence
        return _UNREADABLE
    sha = hashlib.sha256(str(frames.shape).encode())
    sha.update(np.ascontiguousarray(frames).data)
    return sha.hexdigest()
