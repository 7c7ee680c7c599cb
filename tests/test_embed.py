"""Embedding: errors and warnings."""

import jax
import numpy as np
import pytest

from mcl_jax.embed import Embedder
from mcl_jax.errors import DataError
from mcl_jax.models.registry import create_model


def test_an_embedding_beyond_half_precision_is_an_error_and_not_a_score():
    model = create_model("gaitset", {"channels": (2, 2, 2), "embed_dim": 2}, dtype="float16")
    params, batch_stats = model.initial_arrays(0)
    params = jax.tree.map(lambda x: x * 1e4, params)
    with pytest.raises(DataError, match=r"not finite in float16; use float32: eval\.precision=float32"):
        Embedder(model, rows=1, slots=8).embed(params, batch_stats, [np.full((2, 64, 44), 255, np.uint8)])


def test_walks_of_few_frames_are_said_in_one_line(caplog):
    model = create_model("gaitset", {"channels": (2, 2, 2), "embed_dim": 2}, dtype="float32")
    walks = [np.full((length, 64, 44), 255, np.uint8) for length in (6, 1, 2)]
    Embedder(model, rows=1, slots=8).embed(*model.initial_arrays(0), walks)
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if "2 walks have fewer than 5 frames" in line] == [
        "2 walks have fewer than 5 frames, too few to know somebody by, such as number 2 with 1"
    ]


def test_a_map_whose_ones_mean_1_is_embedded_as_a_silhouette_of_255():
    model = create_model("gaitset", {"channels": (2, 2, 2), "embed_dim": 2}, dtype="float32")
    embedder, arrays = Embedder(model, rows=1, slots=4), model.initial_arrays(0)
    walk = np.random.default_rng(0).integers(0, 2, (3, 64, 44), np.uint8)
    (expected,) = embedder.embed(*arrays, [255 * walk])
    (found,) = embedder.embed(*arrays, [walk], one=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
