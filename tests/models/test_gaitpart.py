"""Parts of GaitPart against hand-computed values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mcl_jax.errors import ConfigError
from mcl_jax.models.layers import ConvPair, leaky_relu
from mcl_jax.models.registry import create_model


def test_focal_convolutions_see_each_strip_alone():
    options = {"pool": False, "dtype": jnp.float32, "rngs": nnx.Rngs(0)}
    focal = ConvPair(2, 3, strips=2, **options)
    x = jax.random.normal(jax.random.key(0), (2, 8, 4, 2))
    together, focal.strips = focal(x), 1
    apart = jnp.concatenate([focal(strip) for strip in jnp.split(x, 2, axis=1)], axis=1)
    np.testing.assert_allclose(together, apart, rtol=1e-5, atol=1e-6)
    assert not np.allclose(together, focal(x))


def test_leaky_relu_has_the_slope_at_zero():
    slopes = jax.vmap(jax.grad(leaky_relu))(jnp.array([-1.0, 0.0, 1.0]))
    assert slopes.tolist() == pytest.approx([0.01, 0.01, 1])


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"channels": (2, 4)}, r"model\.channels: is \(2, 4\); expected more than 2 stages"),
        ({"channels": (2, 3, 3)}, r"model\.channels: is \(2, 3, 3\); the last must be at least 4"),
        ({"strips": (1, 4)}, r"model\.strips: is \(1, 4\); expected a number for each of \(32, 64, 128\)"),
        (
            {"strips": (1, 4, 32)},
            r"model\.strips: .*; 32 does not divide the 16 rows of stage 3",
        ),
    ],
)
def test_stages_that_cannot_be_cut_are_refused(arguments, why):
    with pytest.raises(ConfigError, match=why):
        create_model("gaitpart", arguments, dtype="float32")
