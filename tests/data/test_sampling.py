"""Every frame-sampling mode and the P×K draw follow their rules."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcl_jax.data.feed.sampling import FrameSampling, SubjectSampler, require_pairs, sample_frames
from mcl_jax.data.sequences import SequenceRef, Split
from mcl_jax.data.stores.tree import PklSource
from mcl_jax.errors import ConfigError, UserError


def draws(sampling: FrameSampling, available: int, length: int, count: int = 200) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([sample_frames(rng, available, length, sampling) for _ in range(count)])


def test_unordered_draws_without_replacement_if_possible():
    sampling = FrameSampling("fixed_unordered", frames=5)
    for indices in draws(sampling, 8, 5):
        assert len(set(indices)) == 5
    assert {len(set(indices)) for indices in draws(sampling, 3, 5)} <= {1, 2, 3}
    # All frames are equally likely, and the order is random.
    counts = np.bincount(draws(sampling, 8, 5, 4000).ravel())
    assert counts == pytest.approx(np.full(8, 2500), rel=0.1)
    assert any((np.diff(indices) < 0).any() for indices in draws(sampling, 8, 5))


def test_unfixed_lengths_are_uniform():
    sampling = FrameSampling("unfixed_unordered", min_frames=3, max_frames=6)
    lengths = sampling.draw_lengths(np.random.default_rng(0), 8000)
    assert np.bincount(lengths)[3:] == pytest.approx(np.full(4, 2000), rel=0.1)
    assert sampling.variable_length
    assert not FrameSampling("unfixed_unordered", min_frames=3, max_frames=3).variable_length


@given(
    available=st.integers(1, 60),
    length=st.integers(1, 12),
    skip=st.integers(0, 4),
    max_rate=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_ordered_clips_follow_the_rules(available, length, skip, max_rate, seed):
    sampling = FrameSampling("fixed_ordered", frames=length, skip=skip, max_rate=max_rate)
    indices = sample_frames(np.random.default_rng(seed), available, length, sampling)
    assert len(indices) == length
    assert indices.min() >= 0
    assert indices.max() < available
    window = (length + skip) * max_rate - max_rate + 1
    if available >= window:
        assert (np.diff(indices) > 0).all()
        assert indices[-1] - indices[0] < window


def test_interval_sampling_takes_every_second_or_third_frame():
    sampling = FrameSampling("fixed_ordered", frames=4, skip=0, min_rate=1, max_rate=3)
    steps = [set(np.diff(indices)) for indices in draws(sampling, 50, 4)]
    assert {frozenset(s) for s in steps} == {frozenset({1}), frozenset({2}), frozenset({3})}


def test_short_sequences_are_repeated_in_order():
    sampling = FrameSampling("fixed_ordered", frames=6, skip=0)
    # Four frames tiled twice: windows of six start at 0, 1 or 2.
    found = {tuple(indices) for indices in draws(sampling, 4, 6)}
    assert found == {(0, 1, 2, 3, 0, 1), (1, 2, 3, 0, 1, 2), (2, 3, 0, 1, 2, 3)}


def test_skipped_frames_are_left_out_anywhere():
    sampling = FrameSampling("fixed_ordered", frames=3, skip=1)
    found = {tuple(indices) for indices in draws(sampling, 4, 3)}
    assert found == {(0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3)}


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"mode": "ordered"}, "no mode 'ordered'"),
        ({"mode": "fixed_ordered", "frames": 0}, "at least 1"),
        ({"mode": "unfixed_unordered", "min_frames": 5, "max_frames": 4}, "min_frames ≤ max_frames"),
        ({"mode": "fixed_ordered", "min_rate": 3, "max_rate": 2}, "min_rate ≤ max_rate"),
    ],
)
def test_invalid_settings_are_named(settings_, message):
    with pytest.raises(ConfigError, match=message):
        FrameSampling(**settings_)


def split_of(*counts: int) -> Split:
    sequences = [
        SequenceRef(f"{s:03d}", "nm", f"{i:03d}", "") for s, n in enumerate(counts) for i in range(n)
    ]
    return Split(tuple(sequences), tuple(f"{s:03d}" for s in range(len(counts))), PklSource())


def test_subjects_and_sequences_of_a_batch():
    split = split_of(4, 2, 6, 3)
    sampler = SubjectSampler(split, (3, 3))
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(100):
        drawn, labels = sampler.draw(rng)
        assert labels.tolist() == np.repeat(labels[::3], 3).tolist()
        assert len(set(labels)) == 3
        for label in set(labels):
            mine = drawn[labels == label]
            assert {split.sequences[r].subject for r in mine} == {split.subjects[label]}
            # Subject 1 has two sequences only.
            assert len(set(mine)) == 3 or label == 1
        seen |= set(drawn)
    assert len(seen) == 15


def test_more_subjects_than_there_are_is_named():
    with pytest.raises(ConfigError, match=r"P = 5 subjects a batch, but the training split has 4"):
        SubjectSampler(split_of(1, 1, 1, 1), (5, 1))


def people_of(walks: dict[str, int]) -> Split:
    names = [(subject, f"{i}") for subject, count in walks.items() for i in range(count)]
    sequences = tuple(SequenceRef(subject, walk, "000", "") for subject, walk in names)
    return Split(sequences, tuple(walks), PklSource())


@pytest.mark.parametrize(
    ("walks", "batch", "message"),
    [
        ({"anna": 5}, (2, 2), "the training split has only one person, 'anna'; at least 2"),
        ({"anna": 1, "ben": 1}, (2, 2), "none of the 2 training people has more than one walk"),
        ({"anna": 5, "ben": 5}, (2, 1), r"train.batch: \(2, 1\) people × walks give no pairs"),
        ({"anna": 5, "ben": 5}, (1, 2), r"train.batch: \(1, 2\) people × walks give no pairs"),
    ],
)
def test_a_split_without_pairs_is_refused(walks, batch, message):
    with pytest.raises(UserError, match=message):
        require_pairs(people_of(walks), batch)


def test_more_walks_a_batch_than_people_have_are_said_in_one_line(caplog):
    require_pairs(people_of({"anna": 4, "ben": 4}), (2, 4))
    assert not caplog.records
    require_pairs(people_of({"anna": 4, "ben": 3, "cleo": 1}), (2, 4))
    (record,) = caplog.records
    message = record.getMessage()
    assert message.startswith("2 of 3 training people have fewer walks than the K = 4 of train.batch")
    assert "such as 'ben' with 3;" in message
