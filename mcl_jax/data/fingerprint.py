"""Fingerprint of training or test data: people in order, sequences, and the pixels of a few of them."""

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

_SAMPLED = 32  # sequences whose pixels are read, however many there are
_UNREADABLE = ""


@dataclasses.dataclass(frozen=True)
class DataFingerprint:
    """Tells one set of sequences from another, wherever it lies and in whichever format.

    Attributes:
        people: names; a person's rank is their class.
        sequences: subject, condition and view of each, sorted.
        contents: name of a sampled sequence → digest of its frames; "" for one that could not be read.
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
        """SHA-256 of all of it."""
        return hashlib.sha256(canonical(self.digests)).hexdigest()


def fingerprint_of(split: Split) -> DataFingerprint:
    """Returns the fingerprint of a split; at most `_SAMPLED` sequences are read."""
    count = len(split.sequences)
    places = np.unique(np.linspace(0, count - 1, min(count, _SAMPLED)).round().astype(int))
    sampled = [split.sequences[place] for place in places]
    return DataFingerprint(
        people=split.subjects,
        sequences=tuple((s.subject, s.condition, s.view) for s in split.sequences),
        contents={sequence.key: _digest(split.source, sequence) for sequence in sampled},
    )


def known_people(before: DataFingerprint, split: Split) -> tuple[str, ...]:
    """Returns which people of a split are among those of a training set.

    Names alone do not tell: other datasets have a '001' too. So the frames are compared of the sequences that
    were sampled from both; where all differ, the people are others of the same names.
    """
    both = tuple(sorted(set(before.people) & set(split.subjects)))
    here = {sequence.key: sequence for sequence in split.sequences} if both else {}
    sampled = [(here[key], digest) for key, digest in before.contents.items() if digest and key in here]
    same = not sampled or any(_digest(split.source, sequence) == digest for sequence, digest in sampled)
    return both if same else ()


def differences(before: DataFingerprint, now: DataFingerprint) -> list[str]:
    """Returns a line for each kind of difference, with an example; none where the data are the same."""
    people, now_people = set(before.people), set(now.people)
    lines = _gone_and_new("people", people, now_people)
    both = people & now_people
    lines += _gone_and_new(
        "sequences of the others" if lines else "sequences",
        {"/".join(names) for names in before.sequences if names[0] in both},
        {"/".join(names) for names in now.sequences if names[0] in both},
    )
    compared = [
        key for key, digest in before.contents.items() if digest and now.contents.get(key, _UNREADABLE)
    ]
    changed = [key for key in compared if before.contents[key] != now.contents[key]]
    if changed:
        lines.append(f"other frames in {len(changed)} of {len(compared)} sequences, such as {changed[0]}")
    return lines


def kinds_of_difference(before: Mapping[str, Any], now: DataFingerprint) -> list[str]:
    """Lists the kinds of differences where only the digests of the earlier data are known."""
    words = {"people": "other people", "sequences": "other sequences", "contents": "other frames"}
    return [words[kind] for kind, digest in now.digests.items() if before.get(kind) != digest]


def _gone_and_new(what: str, before: Collection[str], now: Collection[str]) -> list[str]:
    gone, new = sorted(set(before) - set(now)), sorted(set(now) - set(before))
    return [
        f"{len(names)} {what} {verb}, such as {names[0]!r}"
        for names, verb in ((gone, "gone"), (new, "new"))
        if names
    ]


def _digest(source: Source, sequence: SequenceRef) -> str:
    try:
        frames = cut(np.asarray(source.read(sequence)[:]))
    except DataError:  # said where a batch needs it, or skipped there
        return _UNREADABLE
    sha = hashlib.sha256(str(frames.shape).encode())
    sha.update(np.ascontiguousarray(frames).data)
    return sha.hexdigest()
