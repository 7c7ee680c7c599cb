"""`check_model` finds violated requirements of `GaitModule`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import mcl_jax
from mcl_jax.data.feed.packing import EMPTY, SequencePacker, place, train_row_shape
from mcl_jax.errors import UserError
from mcl_jax.models import MODELS, GaitModule, GaitOutput
from mcl_jax.models.layers import segments_present, temporal_max, to_unit_range
from mcl_jax.utils.spacing import Spacing


class Window(GaitModule):
    """The mean of so many frames about each, its greatest value over all frames, and a linear map."""

    WINDOW = 5

    def __init__(self, *, dtype, rngs: nnx.Rngs):
        self.dtype = dtype
        self.linear = nnx.Linear(44, 3, rngs=rngs)

    def __call__(self, frames, segment_ids, *, num_segments: int, train: bool) -> GaitOutput:
        rows, slots = segment_ids.shape
        images = to_unit_range(frames, self.dtype) * self.present(segment_ids).reshape(-1, 1, 1, 1)
        columns = images.mean(axis=1).reshape(rows, slots, 44)
        half = self.WINDOW // 2
        padded = jnp.pad(columns, ((0, 0), (half, half), (0, 0)))
        moved = sum(padded[:, i : i + slots] for i in range(self.WINDOW)).reshape(rows * slots, 1, 44, 1)
        pooled = temporal_max(moved, segment_ids, num_segments, whole_rows=self.whole_rows)[:, :, :, 0]
        return GaitOutput(self.linear(pooled), None, segments_present(segment_ids, num_segments))

    def present(self, segment_ids):
        return segment_ids >= 0


class Declared(Window):
    SPACING = Spacing(empty=2)


class Leaking(Declared):
    def present(self, segment_ids):
        return jnp.ones_like(segment_ids)


class Unused(Declared):
    def __init__(self, *, dtype, rngs: nnx.Rngs):
        super().__init__(dtype=dtype, rngs=rngs)
        self.more = nnx.Linear(2, 2, rngs=rngs)


class Drawing(Declared):
    """Adds noise whose place among all that is drawn depends on the number of rows."""

    DRAWS = True

    def __call__(self, frames, segment_ids, *, num_segments: int, train: bool, key=None) -> GaitOutput:
        output = super().__call__(frames, segment_ids, num_segments=num_segments, train=train)
        if key is None:
            return output
        noise = jax.random.normal(key, (2, len(output.embeddings), 1, 1))[1]
        return output._replace(embeddings=output.embeddings + noise)


def test_a_window_wider_than_declared_is_detected_with_the_right_spacing():
    with pytest.raises(
        UserError, match=r"Window: embeddings of packed sequences differ.*: set SPACING = Spacing\(empty=2\)$"
    ):
        mcl_jax.check_model(Window)
    lines = mcl_jax.check_model(Declared)
    assert lines[0].endswith("with 2 empty slots in between")
    assert any("gradients" in line for line in lines)
    assert any("StableHLO" in line for line in lines)
    assert Declared not in MODELS.values()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Leaking, "depends on the content of empty slots|embeddings of packed sequences differ"),
        (Unused, "no gradient reaches 2 of 4 parameters, such as more/"),
        (Drawing, "numbers drawn for a sequence in training depend on the number of rows"),
    ],
)
def test_failed_checks_are_named(kind, message):
    with pytest.raises(UserError, match=message):
        mcl_jax.check_model(kind)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("gaitset", {"channels": (2, 3, 4), "embed_dim": 3}),
        ("gaitbase", {"channels": (2, 3, 4, 4), "embed_dim": 3, "backbone": "plain", "bins": (16, 1)}),
        ("gaitpart", {"channels": (2, 3, 4), "embed_dim": 3}),
        ("gaitgl", {"channels": (2, 3, 4)}),
        ("gaitgl", {"form": "large", "channels": (2, 3, 4, 4)}),
        ("gaitgl", {"form": "large", "channels": (2, 3, 4, 4), "necks": True}),
        ("swingait", {"layers": (1, 1, 2, 1), "channels": (2, 3), "widths": (16, 32), "parts": 3}),
        (
            "foundationgait",
            {"layers": (1, 1, 1, 1), "channels": (2, 2, 3, 3), "bins": (4, 1), "embed_dim": 3},
        ),
    ],
)
def test_models_of_the_package_pass(name, arguments):
    lines = mcl_jax.check_model(MODELS[name], **arguments)
    assert len(lines) == 4 + MODELS[name].DRAWS
    assert not any("cannot be exported" in line for line in lines)


@pytest.mark.parametrize("gap", [1, 2, 3])
def test_packing_keeps_the_empty_slots(gap):
    def least_distance(ids: np.ndarray) -> int:
        ends = np.flatnonzero((ids[:-1] != EMPTY) & (ids[1:] == EMPTY))
        starts = np.flatnonzero((ids[:-1] == EMPTY) & (ids[1:] != EMPTY)) + 1
        return min((start - end - 1 for start in starts for end in ends if start > end), default=gap)

    walks = [np.ones((length, 2, 2), np.uint8) for length in (9, 30, 4, 17, 1, 1, 12)]
    seen = []
    for batch in SequencePacker(2, 40, spacing=Spacing(gap)).pack(walks):
        seen += [int(p) for p in batch["positions"].ravel() if p >= 0]
        for ids in batch["segment_ids"]:
            assert np.count_nonzero(np.diff(ids[ids != EMPTY])) <= np.count_nonzero(ids == EMPTY) / gap
            assert least_distance(ids) >= gap
    assert sorted(seen) == list(range(len(walks)))
    shape = train_row_shape(32, 3, 7, Spacing(gap))
    lengths = np.random.default_rng(0).integers(3, 8, 32)
    placement = place(lengths, shape, Spacing(gap))
    assert placement is not None
    for row in range(shape.rows):
        here = np.flatnonzero(placement.row == row)
        order = here[np.argsort(placement.start[here])]
        ends = placement.start[order] + lengths[order]
        assert (placement.start[order][1:] - ends[:-1] == gap).all()
        assert ends[-1] <= shape.slots
