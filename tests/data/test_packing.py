"""Packed rows have every frame once, and gaps between neighbours."""

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcl_jax.data.feed.packing import (
    RowShape,
    SequencePacker,
    place,
    train_row_shape,
    train_row_shapes,
)
from mcl_jax.models import MODELS
from mcl_jax.utils.spacing import SIDE_BY_SIDE, Spacing

BY_THREES = Spacing(multiple=3, least=4)  # GaitGL's


def test_clips_of_one_length_have_a_row_each():
    assert train_row_shape(128, 30, 30) == RowShape(128, 30, 1)
    placement = place(np.full(4, 30), RowShape(4, 30, 1))
    assert placement.row.tolist() == [0, 1, 2, 3]
    assert placement.start.tolist() == [0, 0, 0, 0]


def test_longest_clips_are_dealt_back_and_forth():
    # Sorted: 6 5 | 4 1 → row 0 gets 6 and 1, row 1 gets 5 and 4.
    placement = place(np.array([1, 6, 4, 5]), RowShape(2, 10, 2))
    assert placement.row.tolist() == [0, 0, 1, 1]
    assert placement.segment.tolist() == [1, 0, 1, 0]
    assert placement.start.tolist() == [7, 0, 6, 0]
    assert place(np.array([1, 6, 4, 5]), RowShape(2, 9, 2)) is None


@pytest.mark.parametrize(("low", "high"), [(10, 50), (20, 40)])
def test_the_budget_of_the_published_runs(low, high):
    shape = train_row_shape(128, low, high)
    assert (shape.rows, shape.segments) == (16, 8)
    rng = np.random.default_rng(0)
    lengths = rng.integers(low, high + 1, (2000, 128))
    fits = [place(row, shape) is not None for row in lengths]
    assert np.mean(fits) > 0.999
    assert lengths.mean() * 128 / (shape.rows * shape.slots) > 0.8


@pytest.mark.parametrize(
    ("sequences", "low", "high", "sizes", "waste", "waste_of_one"),
    [
        (8, 10, 50, (232, 256, 280, 312, 384), 0.092, 0.375),
        (8, 20, 40, (240, 256, 280, 320), 0.071, 0.250),
        (128, 10, 50, (248, 264, 288), 0.069, 0.167),
        (128, 20, 40, (248, 256, 272), 0.051, 0.118),
    ],
)
def test_few_sizes_of_rows_leave_few_slots_empty(sequences, low, high, sizes, waste, waste_of_one):
    shapes = train_row_shapes(sequences, low, high, 5)
    assert tuple(shape.slots for shape in shapes) == sizes
    rng = np.random.default_rng(0)
    lengths = rng.integers(low, high + 1, (2000, sequences))
    slots = [next((s.slots for s in shapes if place(row, s)), sizes[-1]) for row in lengths]
    used = lengths.sum(1).mean() / shapes[0].rows
    assert 1 - used / np.mean(slots) == pytest.approx(waste, abs=0.003)
    assert 1 - used / sizes[-1] == pytest.approx(waste_of_one, abs=0.003)
    shares = [np.mean(np.equal(slots, size)) for size in sizes[:-1]]
    assert min(shares) > 1 / 8


@given(
    data=st.data(),
    sequences=st.integers(1, 24),
    low=st.integers(1, 30),
    more=st.integers(0, 30),
    sizes=st.integers(1, 5),
)
def test_a_smaller_row_size_only_drops_empty_slots_at_the_end(data, sequences, low, more, sizes):
    shapes = train_row_shapes(sequences, low, low + more, sizes)
    slots = [shape.slots for shape in shapes]
    assert slots == sorted(set(slots))
    assert 1 <= len(slots) <= (sizes if more else 1)
    largest = shapes[-1]
    assert largest == train_row_shape(sequences, low, low + more)
    assert {(shape.rows, shape.segments) for shape in shapes} == {(largest.rows, largest.segments)}
    several = st.lists(st.integers(low, low + more), min_size=sequences, max_size=sequences)
    lengths = np.array(data.draw(several))
    expected = place(lengths, largest)
    for shape in shapes:
        placement = place(lengths, shape)
        if expected is None or (expected.start + lengths > shape.slots).any():
            assert placement is None
        else:
            assert all(
                np.array_equal(a, b) for a, b in zip(astuple(placement), astuple(expected), strict=True)
            )


@given(data=st.data(), rows=st.integers(1, 5), segments=st.integers(1, 5))
def test_placed_clips_never_touch(data, rows, segments):
    lengths = np.array(
        data.draw(st.lists(st.integers(1, 9), min_size=rows * segments, max_size=rows * segments))
    )
    shape = RowShape(rows, segments * 10, segments)
    placement = place(lengths, shape)
    used = np.zeros((rows, shape.slots + 1), int)
    for row, start, length in zip(placement.row, placement.start, lengths, strict=True):
        used[row, start : start + length] += 1
        assert start + length <= shape.slots
        assert not used[row, start + length]
        if start:
            assert not used[row, start - 1]
    assert used.max() == 1
    assert sorted(zip(placement.row, placement.segment, strict=True)) == [
        (r, s) for r in range(rows) for s in range(segments)
    ]


def sequence(length: int, value: int) -> np.ndarray:
    return np.full((length, 2, 2), value, np.uint8)


@given(
    lengths=st.lists(st.integers(1, 90), max_size=30),
    rows=st.integers(1, 4),
    multiple=st.sampled_from([1, 2, 3]),
    spacing=st.sampled_from([SIDE_BY_SIDE, BY_THREES]),
)
def test_every_sequence_is_packed_once_and_whole(lengths, rows, multiple, spacing):
    packer = SequencePacker(rows, slots=32, row_multiple=multiple, spacing=spacing)
    found = {}
    shapes = set()
    for batch in packer.pack(sequence(n, i + 1) for i, n in enumerate(lengths)):
        frames, ids, positions = batch["frames"], batch["segment_ids"], batch["positions"]
        shapes.add((*ids.shape, positions.shape[1]))
        assert ids.shape[0] % multiple == 0
        assert not frames[ids < 0].any()
        for row, segment in np.argwhere(positions >= 0):
            position = int(positions[row, segment])
            assert position not in found
            (slots,) = np.nonzero(ids[row] == segment)
            found[position] = len(slots)
            assert (np.diff(slots) == 1).all()
            assert (frames[row, slots] == position + 1).all()
            assert slots[0] % spacing.multiple == 0
            its_own = slots[0] + spacing.held(len(slots))
            assert its_own <= ids.shape[1]
            empty = [slots[0] - 1, *range(slots[-1] + 1, its_own + 1)]
            for neighbour in empty:
                assert not 0 <= neighbour < ids.shape[1] or ids[row, neighbour] == -1
        assert set(ids[ids >= 0]) <= set(range(positions.shape[1]))
    assert found == dict(enumerate(lengths))
    assert {rows for rows, _, _ in shapes} <= {multiple}


def shapes_and_waste(packer: SequencePacker, lengths: np.ndarray) -> tuple[set[tuple[int, ...]], float]:
    shapes = [batch["segment_ids"].shape for batch in packer.pack(np.zeros((n, 1, 1)) for n in lengths)]
    return set(shapes), 1 - lengths.sum() / sum(rows * slots for rows, slots in shapes)


def test_lengths_that_take_equally_many_slots_have_one_shape():
    by_threes = Spacing(empty=1, multiple=3, least=4)  # 2 to 5 frames all take 6 slots
    assert train_row_shapes(4, 2, 5, 5, by_threes) == (train_row_shape(4, 2, 5, by_threes),)


@pytest.mark.parametrize(("count", "most_shapes", "most_waste"), [(200, 4, 0.05), (16, 5, 0.15)])
def test_few_slots_are_empty_and_few_shapes_needed(count: int, most_shapes: int, most_waste: float):
    for seed in range(50):
        lengths = np.random.default_rng(seed).integers(20, 121, count)
        shapes, waste = shapes_and_waste(SequencePacker(4, slots=256), lengths)
        assert len(shapes) <= most_shapes
        assert waste < most_waste


@pytest.mark.parametrize("spacing", dict.fromkeys(kind.SPACING for kind in MODELS.values()), ids=str)
def test_few_slots_are_empty_whatever_spacing_a_model_needs(spacing):
    for seed in range(10):
        lengths = np.random.default_rng(seed).integers(20, 121, 200)
        _, waste = shapes_and_waste(SequencePacker(4, slots=256, spacing=spacing), lengths)
        assert waste < 0.05


def test_clips_begin_at_multiples_and_short_ones_have_room():
    placement = place(np.array([1, 6, 4, 5]), RowShape(2, 13, 2), BY_THREES)
    assert placement.start.tolist() == [9, 0, 6, 0]  # 1 frame is repeated into slots 9 to 12
    assert place(np.array([1, 6, 4, 5]), RowShape(2, 12, 2), BY_THREES) is None
    assert train_row_shape(4, 2, 2, BY_THREES) == RowShape(4, 4, 1)
    shape = train_row_shape(128, 10, 50, BY_THREES)
    lengths = np.random.default_rng(0).integers(10, 51, (500, 128))
    assert np.mean([place(row, shape, BY_THREES) is not None for row in lengths]) > 0.99


def test_devices_share_a_batch():
    lengths = np.random.default_rng(0).integers(20, 121, 200)
    shapes, waste = shapes_and_waste(SequencePacker(4, slots=256, row_multiple=2), lengths)
    assert (2, 512) in shapes
    assert waste < 0.05


def test_a_single_sequence_gets_a_small_batch():
    shapes, _ = shapes_and_waste(SequencePacker(4, slots=256), np.array([60]))
    assert shapes == {(1, 64)}


def test_sizes_of_rows():
    packer = SequencePacker(1, slots=256)
    assert packer.sizes(1) == [32, 48, 64, 96, 128, 192, 256]
    assert packer.sizes(97) == [128, 192, 256]
    assert [packer.sizes(n) for n in (257, 385, 513)] == [[384], [512], [768]]


def test_a_long_sequence_is_filled_up_with_others():
    shapes, _ = shapes_and_waste(SequencePacker(1, slots=64), np.array([20, 70, 3]))
    assert shapes == {(1, 96)}


def test_few_sequences_wait_at_a_time():
    drawn = []

    def sequences():
        for i in range(100):
            drawn.append(i)
            yield sequence(20, 1)

    next(SequencePacker(1, slots=64).pack(sequences()))
    assert len(drawn) == 7  # 7 · 21 slots are more than 2 · 64


@given(st.lists(st.integers(1, 720), min_size=1, max_size=12), st.sampled_from([1, 3, 4]))
def test_every_batch_has_one_of_the_shapes_that_are_told_beforehand(lengths, devices):
    packer = SequencePacker(4, 256, devices, BY_THREES)
    told = {(shape.rows, shape.slots, shape.segments) for shape in packer.shapes(720)}
    batches = packer.pack(np.zeros((length, 1, 1), np.uint8) for length in lengths)
    assert {(*b["segment_ids"].shape, b["positions"].shape[1]) for b in batches} <= told
