"""Published facts about each dataset, and a comparison of a user's folder with them.

References:
    CASIA-B: http://www.cbsr.ia.ac.cn/english/Gait%20Databases.asp
    OU-MVLP: http://www.am.sanken.osaka-u.ac.jp/BiometricDB/GaitMVLP.html
    GREW: Zhu et al., Gait Recognition in the Wild: A Benchmark, ICCV 2021
    Gait3D: Zheng et al., Gait Recognition in the Wild with Dense 3D Representations, CVPR 2022
    CASIA-E: https://www.scidb.cn/en/detail?dataSetId=57be0e918db743279baf44a38d013a06
"""

import dataclasses
import itertools
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from mcl_jax.data.datasets import OpenDataset
from mcl_jax.data.sequences import SequenceRef, Split
from mcl_jax.errors import DataError

_SAMPLED = 32  # number of sequences whose frames are read
_LISTED = 5


@dataclasses.dataclass(frozen=True)
class DatasetFacts:
    """Published facts about a dataset; 0 and () for unpublished ones.

    Attributes:
        train_people: number of training people.
        test_people: number of test people (folders).
        train_sequences: number of their training sequences.
        test_sequences: number of their test sequences.
        conditions: names of the conditions.
        views: names of the views.
        probes: number of sequences that the partition lists as probes.
        complete: whether every person has every condition from every view.
    """

    train_people: int
    test_people: int
    train_sequences: int = 0
    test_sequences: int = 0
    conditions: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    probes: int = 0
    complete: bool = False


def _numbered(pattern: str, numbers: Collection[int]) -> tuple[str, ...]:
    return tuple(pattern.format(number) for number in numbers)


FACTS: dict[str, DatasetFacts] = {
    "casiab": DatasetFacts(
        74,
        50,
        74 * 110,
        50 * 110,
        conditions=(
            *_numbered("nm-{:02d}", range(1, 7)),
            *_numbered("bg-{:02d}", (1, 2)),
            *_numbered("cl-{:02d}", (1, 2)),
        ),
        views=_numbered("{:03d}", range(0, 181, 18)),
        complete=True,
    ),
    # The folder "probe" has the probes of all people, two of each.
    "grew": DatasetFacts(20_000, 6_001, 102_887, 24_000),
    "gait3d": DatasetFacts(3_000, 1_000, 18_940, 6_369, probes=1_000),
    # Not everybody walked past every camera twice, so some sequences are missing from the dataset itself.
    "oumvlp": DatasetFacts(
        5_153,
        5_154,
        conditions=("00", "01"),
        views=_numbered("{:03d}", (*range(0, 91, 15), *range(180, 271, 15))),
    ),
    "casiae": DatasetFacts(200, 814),
}
"""Key of `mcl_jax.data.datasets.DATASETS` → published facts."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One comparison of a folder with the published facts.

    Attributes:
        name: what is counted, such as "views".
        found: number found.
        published: published number; 0 if there is none.
        detail: names that are missing or extra, or an example.
    """

    name: str
    found: int
    published: int
    detail: str = ""

    @property
    def differs(self) -> bool:
        """Whether the folder differs from the published facts."""
        return (bool(self.published) and self.found != self.published) or bool(self.detail)

    def __str__(self) -> str:
        if not self.published:
            result = f"{self.found:,}; no number is published"
        elif self.found == self.published:
            result = f"{self.found:,}, as published"
        else:
            side = "missing" if self.found < self.published else "too many"
            result = f"{self.found:,} of {self.published:,}: {abs(self.published - self.found):,} {side}"
        return f"{self.name}: {result}" + f"; {self.detail}" * bool(self.detail)


def compare_dataset(dataset: OpenDataset, *, train: bool) -> list[Finding]:
    """Compares the sequences of a dataset with the published facts.

    Args:
        dataset: the open dataset.
        train: whether to compare the training people too.

    Raises:
        DataError: if the folder has another dataset.
    """
    facts = FACTS.get(dataset.name, DatasetFacts(0, 0))
    test = _of(dataset.sequences, dataset.partition.test)
    _require_kind(dataset.name, facts, test)
    findings = [
        Finding("test people", len({s.subject for s in test}), facts.test_people),
        _sequences("test sequences", test, facts.test_sequences, facts),
    ]
    if train:
        others = _of(dataset.sequences, dataset.partition.train)
        findings += [
            Finding("training people", len({s.subject for s in others}), facts.train_people),
            _sequences("training sequences", others, facts.train_sequences, facts),
        ]
    if facts.probes:
        there = {f"{s.subject}-{s.condition}-{s.view}" for s in test}
        findings.append(Finding("probes", len(there & set(dataset.partition.probe_set or ())), facts.probes))
    for kind, names, published in (
        ("conditions", {s.condition for s in test}, facts.conditions),
        ("views", {s.view for s in test}, facts.views),
    ):
        if published:
            findings.append(Finding(kind, len(names), len(published), _names(names, set(published))))
    return findings


def describe_frames(split: Split) -> str:
    """Returns sizes and numbers of frames of some sequences, like "64×64, 28 to 103 per sequence"."""
    places = np.unique(np.linspace(0, len(split.sequences) - 1, _SAMPLED).round().astype(int))
    sizes, counts = set(), []
    for place in places.tolist():
        try:
            frames = split.source.read(split.sequences[place])
        except DataError:  # counted when the sequences are embedded
            continue
        sizes.add("×".join(map(str, frames[:1].shape[1:])))
        counts.append(len(frames))
    if not counts:
        return "none can be read"
    return (
        f"{', '.join(sorted(sizes))}, {min(counts)} to {max(counts)} per sequence, in {len(counts)} sampled"
    )


def _of(sequences: Sequence[SequenceRef], people: Collection[str]) -> list[SequenceRef]:
    wanted = set(people)
    return [sequence for sequence in sequences if sequence.subject in wanted]


def _require_kind(name: str, facts: DatasetFacts, sequences: Sequence[SequenceRef]) -> None:
    for kind, names, published in (
        ("conditions", {s.condition for s in sequences}, facts.conditions),
        ("views", {s.view for s in sequences}, facts.views),
    ):
        if published and not names & set(published):
            raise DataError(
                f"data.root: is not {name}: its {kind} are {_some(names)}, but those of {name} are "
                f"{_some(published)}"
            )


def _sequences(name: str, sequences: Sequence[SequenceRef], published: int, facts: DatasetFacts) -> Finding:
    detail = ""
    if facts.complete and len(sequences) < published:
        missing = next(_missing(sequences, facts), None)
        detail = "" if missing is None else f"such as {missing}"
    return Finding(name, len(sequences), published, detail)


def _missing(sequences: Sequence[SequenceRef], facts: DatasetFacts) -> Iterator[str]:
    there = {sequence.key for sequence in sequences}
    people = sorted({sequence.subject for sequence in sequences})
    for names in itertools.product(people, facts.conditions, facts.views):
        if "/".join(names) not in there:
            yield "/".join(names)


def _names(found: set[str], published: set[str]) -> str:
    parts = [
        f"{word}: {_some(names)}"
        for word, names in (("missing", published - found), ("not published", found - published))
        if names
    ]
    return "; ".join(parts)


def _some(names: Collection[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:_LISTED]) + (", …" if len(listed) > _LISTED else "")
