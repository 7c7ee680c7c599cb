"""Every model: its parts lie where it says, its frames are kept, and the gradient is that of the distance."""

import numpy as np
import pytest

from mcl_jax.explanation.frame_shares import frame_shares
from mcl_jax.explanation.probing import probe_of, reach_of
from mcl_jax.models.registry import create_model

CHANNELS = {"channels": (2, 3, 4)}
CLASSES = {"num_classes": 3}
DEEP = {"channels": (2, 3, 4, 4), "layers": (1, 1, 1, 1), **CLASSES}
# Model → its arguments, frames of a group, and how many frames before and after one its features depend on:
# at least, and at most.
MODELS = {
    "gaitset": (CHANNELS | {"embed_dim": 5}, 1, (0, 0)),
    "gaitbase": ({"channels": (2, 3, 4, 4), "bins": (16, 4, 1), "embed_dim": 5, **CLASSES}, 1, (0, 0)),
    "gaitpart": (CHANNELS | {"embed_dim": 5}, 1, (1, 2)),  # windows of 5 frames
    "gaitgl": (CHANNELS | CLASSES, 3, (3, 17)),
    "gaitpocket": ({"channels": (2, 3, 4, 4), "embed_dim": 5, **CLASSES}, 1, (0, 0)),
    "gaitenergy": (CHANNELS | {"gates": 2, "embed_dim": 5, **CLASSES}, 1, (0, 0)),
    "swingait": (
        {"layers": (1, 1, 2, 1), "channels": (2, 3), "widths": (16, 32), "parts": 3, **CLASSES},
        1,
        (1, 17),
    ),
    "deepgaitv2": (DEEP, 1, (1, 3)),  # a convolution of 3 frames in each of three stages
}
WIDTHS = {"gaitgl": 4, "swingait": 16, "deepgaitv2": 4}  # channels of an embedding, where not 5
FAST = ("gaitset",)
EVERY = [pytest.param(name, marks=[pytest.mark.slow] * (name not in FAST)) for name in MODELS]


@pytest.mark.parametrize("name", EVERY)
def test_a_model_tells_where_its_parts_are_and_which_frames_gave_them(name):
    arguments, group, (least, most) = MODELS[name]
    model = create_model(name, arguments, dtype="float32")
    params, batch_stats = model.initial_arrays(0)
    probe = probe_of(model, params, batch_stats)
    walk = np.random.default_rng(1).integers(0, 256, (17, 64, 44), np.uint8)
    strips = model.strips
    nothing = np.zeros((len(strips), WIDTHS.get(name, 5)), np.float32)
    finest = min(strip.bottom - strip.top for strip in strips)
    small = [part for part, strip in enumerate(strips) if strip.bottom - strip.top == finest]
    for part in (small[len(small) // 8], small[-2]):  # of either branch, where there are two
        derivative = nothing.copy()
        derivative[part] = np.linspace(-1, 2, nothing.shape[1])
        rows = np.abs(probe(walk, derivative).gradient).sum(axis=(0, 2))
        centre = (rows * (np.arange(64) + 0.5)).sum() / rows.sum() / 64
        if name != "gaitenergy":  # it weighs frames by what it sees of their whole height
            assert strips[part].top - 0.1 <= centre <= strips[part].bottom + 0.1
    found = probe(walk, nothing)
    assert not found.gradient.any()
    assert found.group == group
    assert bool(found.features) == (name != "gaitenergy")
    for features in found.features:
        shares = frame_shares(features, strips)
        assert shares.shape == (len(strips), 17 // group)
        np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert least <= reach_of(probe, walk, found, nothing) <= most
