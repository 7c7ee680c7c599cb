"""Using a checkpoint of another model."""

import jax
import numpy as np
import pytest

from mcl_jax.errors import CheckpointError
from mcl_jax.models.registry import Weights, create_model
from mcl_jax.utils.pytrees import leaves_by_name
from mcl_jax.weights.load import fit_partly

DEEP = {"layers": (1, 2, 1, 1), "channels": (2, 4, 16, 32), "num_classes": 3}
SWIN = {"layers": (1, 1, 1, 1), "channels": (2, 4), "widths": (16, 32), "num_classes": 3}


def numbered(model, start):
    """Arrays of a model that are all different."""
    shapes = model.shapes()
    numbers = iter(range(start, start + 1000))
    return jax.tree.map(lambda x: np.full(x.shape, next(numbers), np.float32), shapes)


@pytest.mark.parametrize("keep_classifier", [False, True])
def test_what_fits_is_taken_and_the_rest_listed(caplog, keep_classifier):
    deep, swin = (create_model(*pair, dtype="float32") for pair in (("deepgaitv2", DEEP), ("swingait", SWIN)))
    weights = Weights(deep.block, *numbered(deep, 1000), 7, "x.pt")
    own = numbered(swin, 0)
    params, statistics = fit_partly(weights, swin, *own, keep_classifier=keep_classifier)
    there = leaves_by_name(weights.params) | leaves_by_name(weights.batch_stats)
    fitted = leaves_by_name(params) | leaves_by_name(statistics)
    taken = {name for name, x in fitted.items() if x.flat[0] >= 1000}
    assert all(np.array_equal(fitted[name], there[name]) for name in taken)
    backbone = {name for name in fitted if name.startswith(("stem/", "stages/"))}
    head = {"head/fcs/kernel", *(f"head/necks/norm/{key}" for key in ("scale", "bias", "mean", "var"))}
    assert taken == backbone | head | ({"head/necks/kernel"} if keep_classifier else set())
    counted = f"{len(taken)} of the {len(fitted)} tensors of swingait are taken from it"
    assert f"x.pt: {counted}; initial values stay in " in caplog.text
    assert "widening/linear (1), widening/norm (2), windows/0 (13), windows/1 (13)" in caplog.text
    assert "not used are " in caplog.text
    assert "stages/3 " in caplog.text
    assert jax.tree.structure(params) == jax.tree.structure(own[0])


def test_a_checkpoint_of_which_nothing_fits_is_refused():
    gaitset = create_model("gaitset", {"channels": (2, 3, 4), "embed_dim": 5}, dtype="float32")
    swin = create_model("swingait", SWIN, dtype="float32")
    weights = Weights(gaitset.block, *numbered(gaitset, 0), 7, "x.pt")
    with pytest.raises(CheckpointError, match=r"x\.pt: no tensor of gaitset fits swingait; start without"):
        fit_partly(weights, swin, *numbered(swin, 0), keep_classifier=True)
