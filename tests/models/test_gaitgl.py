"""Parts of GaitGL against hand-computed values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mcl_jax.errors import ConfigError
from mcl_jax.models.gaitgl import GeM, _ids_of_windows, _repeat_short
from mcl_jax.models.registry import create_model


def test_generalised_mean_by_hand():
    gem = GeM()
    gem.p[...] = jnp.array([2.0])
    x = jnp.array([3.0, 4.0, 0.0, -7.0]).reshape(1, 1, 4, 1)  # what is below 1e-6 counts as that
    assert gem(x).item() == pytest.approx((25 / 4) ** 0.5)


def test_generalised_mean_of_nothing_has_finite_gradients():
    """1e-6 to the power of 6.5 is no number that XLA's float32 has."""
    graphdef, state = nnx.split(GeM())

    def value(state, x):
        return nnx.merge(graphdef, state)(x).sum()

    x = jnp.zeros((1, 2, 4, 1)).at[0, 1].set(0.5)
    to_p, to_x = jax.jit(jax.grad(value, (0, 1)))(state, x)
    assert np.isfinite(to_p["p"][...]).all()
    assert np.isfinite(to_x).all()
    assert not np.any(to_x[0, 0])
    assert GeM()(x)[0, :, 0] == pytest.approx([1e-6, 0.5])


def test_one_frame_and_two_are_repeated_into_the_slots_behind_them():
    a, b, c, d, e, f = range(1, 7)
    frames = jnp.array([[a, 9, 9, 9, 9, 9, b, c, 9, 9, 9, 9, d, e, f, 9]], jnp.uint8)[..., None, None]
    ids = jnp.array([[0, *[-1] * 5, 1, 1, *[-1] * 4, 2, 2, 2, -1]])
    repeated, their_ids = _repeat_short(frames, ids, whole_rows=False)
    assert their_ids.tolist() == [[0, 0, 0, -1, -1, -1, 1, 1, 1, 1, -1, -1, 2, 2, 2, -1]]
    assert repeated[their_ids >= 0].ravel().tolist() == [a, a, a, b, c, b, c, d, e, f]
    assert _ids_of_windows(their_ids).tolist() == [[0, -1, 1, -1, 2]]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"channels": (2, 3, 4, 4)}, r"model\.channels: is \(2, 3, 4, 4\); the small form has 3"),
        ({"form": "large"}, r"model\.channels: is \(32, 64, 128\); the large form has 4"),
        ({"form": "tiny"}, r"model\.form: is tiny; there are small, large"),
    ],
)
def test_channels_that_do_not_fit_the_form_are_refused(arguments, why):
    with pytest.raises(ConfigError, match=why):
        create_model("gaitgl", {"num_classes": 3, **arguments}, dtype="float32")
