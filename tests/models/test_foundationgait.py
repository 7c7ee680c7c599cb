"""The cuts of FoundationGait: inverse of each other, and only of batches and frames that they divide."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcl_jax.errors import ConfigError
from mcl_jax.models.foundationgait import _cut, _joined
from mcl_jax.models.registry import create_model

SIZES = {"layers": (1, 1, 1, 1), "channels": (2, 2, 2, 2), "bins": (1,), "embed_dim": 2, "num_classes": 2}


def test_strips_come_back_in_their_places():
    frames = jnp.arange(3 * 2 * 8 * 5).reshape(3, 2, 8, 5)
    strips = _cut(frames, 4)
    assert strips.shape == (12, 2, 2, 5)
    assert np.array_equal(strips[5], frames[1, :, 2:4])
    assert np.array_equal(_joined(strips[..., None].astype(float), 4)[..., 0], frames)


@pytest.mark.parametrize("rows", [2, 6])
def test_a_batch_that_does_not_make_the_pieces_is_refused(rows):
    model = create_model("foundationgait", SIZES | {"crops": (2, 1)}, dtype="float32")

    def run(arrays):
        frames, ids = jnp.zeros((rows, 1, 64, 44), jnp.uint8), jnp.zeros((rows, 1), int)
        return model.merge(*arrays)(frames, ids, num_segments=1, train=True).embeddings

    with pytest.raises(ConfigError, match=rf"model\.crops: .* multiple of 4 rows .* has {rows}; set train"):
        jax.eval_shape(run, model.shapes())


@pytest.mark.parametrize("crops", [(3,), (16, 1)])
def test_strips_of_half_a_row_of_features_are_refused(crops):
    with pytest.raises(ConfigError, match=r"model\.crops: is .*; expected numbers that divide 8"):
        create_model("foundationgait", SIZES | {"crops": crops}, dtype="float32")
