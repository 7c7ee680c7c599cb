"""Draws the subjects, sequences and frames of a training batch, as indices.

Every function takes a NumPy generator, so a batch is a pure function of the generator's seed.
"""

import dataclasses
from collections import Counter

import numpy as np
from absl import logging

from mcl_jax.data.sequences import Split
from mcl_jax.errors import ConfigError, DataError

MAX_TEST_FRAMES = 720
"""By default, a test takes only this many frames from the start of a sequence, as the reference does."""


@dataclasses.dataclass(frozen=True)
class FrameSampling:
    """Settings for choosing the frames of a training clip.

    Attributes:
        mode: a key of `SAMPLERS`.
        frames: clip length of the fixed modes.
        min_frames: minimum clip length of `unfixed_unordered`.
        max_frames: maximum clip length of `unfixed_unordered`.
        skip: number of frames of the window that `fixed_ordered` leaves out.
        min_rate: minimum stride of `fixed_ordered`; with strides above 1 this is interval sampling.
        max_rate: maximum stride of `fixed_ordered`.
    """

    mode: str
    frames: int = 30
    min_frames: int = 20
    max_frames: int = 40
    skip: int = 4
    min_rate: int = 1
    max_rate: int = 1

    def __post_init__(self) -> None:
        if self.mode not in SAMPLERS:
            raise ConfigError(f"data.sampling.mode: no mode {self.mode!r}; there are {', '.join(SAMPLERS)}")
        if self.frames < 1 or not 1 <= self.min_frames <= self.max_frames:
            raise ConfigError("data.sampling: frames and min_frames ≤ max_frames must be at least 1")
        if self.skip < 0 or not 1 <= self.min_rate <= self.max_rate:
            raise ConfigError("data.sampling: skip must be at least 0, and 1 ≤ min_rate ≤ max_rate")

    @property
    def variable_length(self) -> bool:
        """Whether clips differ in length."""
        return self.mode == "unfixed_unordered" and self.min_frames < self.max_frames

    def draw_lengths(self, rng: np.random.Generator, clips: int) -> np.ndarray:
        """Draws the lengths [clips] of the clips of a batch."""
        if self.mode == "unfixed_unordered":
            return rng.integers(self.min_frames, self.max_frames + 1, clips)
        return np.full(clips, self.frames)


class SubjectSampler:
    """Draws P×K batches: P subjects without replacement, K sequences of each."""

    def __init__(self, split: Split, batch: tuple[int, int]):
        """Indexes the split.

        Raises:
            ConfigError: if P is larger than the number of subjects.
        """
        self.subjects_per_batch, self.sequences_per_subject = batch
        if self.subjects_per_batch > len(split.subjects):
            raise ConfigError(
                f"train.batch: P = {self.subjects_per_batch} subjects a batch, "
                f"but the training split has {len(split.subjects)}; lower P"
            )
        rank = {subject: i for i, subject in enumerate(split.subjects)}
        labels = np.array([rank[s.subject] for s in split.sequences])
        self._sequences_of = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels))[:-1])

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Returns indices of sequences [P·K] and labels [P·K], grouped by subject.

        A subject with fewer than K sequences is drawn from with replacement.
        """
        chosen = rng.choice(len(self._sequences_of), self.subjects_per_batch, replace=False)
        k = self.sequences_per_subject
        drawn = [rng.choice(self._sequences_of[c], k, replace=len(self._sequences_of[c]) < k) for c in chosen]
        return np.concatenate(drawn), np.repeat(chosen, k)


def require_pairs(split: Split, batch: tuple[int, int]) -> None:
    """Checks that a batch has pairs of the same and of different subjects; without them triplet losses are 0.

    Args:
        split: the training sequences.
        batch: P subjects × K sequences.

    Raises:
        ConfigError: if P or K is 1.
        DataError: if there is only one subject, or no subject has two sequences.
    """
    subjects_per_batch, sequences_per_subject = batch
    walks = Counter(sequence.subject for sequence in split.sequences)
    if len(walks) == 1:
        raise DataError(
            f"the training split has only one person, {split.subjects[0]!r}; at least 2 are needed; "
            "check data.partition and data.root"
        )
    if max(walks.values()) == 1:
        raise DataError(
            f"none of the {len(walks)} training people has more than one walk; at least 2 are needed; "
            "check data.partition and data.root"
        )
    if min(subjects_per_batch, sequences_per_subject) < 2:
        raise ConfigError(
            f"train.batch: ({subjects_per_batch}, {sequences_per_subject}) people × walks give no pairs to "
            "compare; set both to at least 2"
        )
    few = {subject: count for subject, count in sorted(walks.items()) if count < sequences_per_subject}
    if few:
        first = next(iter(few))
        logging.warning(
            "%d of %d training people have fewer walks than the K = %d of train.batch, such as %r with %d; "
            "their walks are drawn more than once in a batch",
            len(few),
            len(walks),
            sequences_per_subject,
            first,
            few[first],
        )


def sample_unordered(
    rng: np.random.Generator, available: int, length: int, sampling: FrameSampling
) -> np.ndarray:
    """Draws `length` of `available` frames in random order; with replacement only if there are too few."""
    del sampling
    return rng.choice(available, length, replace=available < length)


def sample_ordered(
    rng: np.random.Generator, available: int, length: int, sampling: FrameSampling
) -> np.ndarray:
    """Draws `length` frames in order from a random window with a random stride (interval sampling).

    A sequence shorter than the window is repeated from its start.
    """
    rate = int(rng.integers(sampling.min_rate, sampling.max_rate + 1))
    window = (length + sampling.skip) * rate - rate + 1
    repeated = -(-window // available) * available
    start = int(rng.integers(0, repeated - window + 1))
    chosen = np.arange(length)  # all of the window
    if sampling.skip > 0:
        chosen = np.sort(rng.choice(length + sampling.skip, length, replace=False))
    return (start + rate * chosen) % available


SAMPLERS = {
    "fixed_unordered": sample_unordered,
    "unfixed_unordered": sample_unordered,
    "fixed_ordered": sample_ordered,
}
"""Mode → function of (generator, available frames, clip length, settings) to frame indices [length]."""


def sample_frames(
    rng: np.random.Generator, available: int, length: int, sampling: FrameSampling
) -> np.ndarray:
    """Draws the frame indices [length] of one clip."""
    return SAMPLERS[sampling.mode](rng, available, length, sampling)
