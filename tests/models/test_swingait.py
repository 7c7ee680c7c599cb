"""Parts of SwinGait against hand-computed values and PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcl_jax.errors import ConfigError
from mcl_jax.models.registry import create_model
from mcl_jax.models.swingait import _drawn, gelu, resized


def test_frames_are_resized_as_pytorch_does():
    torch = pytest.importorskip("torch")  # the newest JAX is tested without it
    x = np.random.default_rng(0).normal(size=(2, 8, 5, 3)).astype(np.float32)
    ours = resized(jnp.asarray(x), (30, 20))
    channels_first = torch.from_numpy(x).permute(0, 3, 1, 2)
    theirs = torch.nn.functional.interpolate(
        channels_first, (30, 20), mode="bilinear", align_corners=True
    ).permute(0, 2, 3, 1)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_gelu_is_the_exact_one():
    torch = pytest.importorskip("torch")  # the newest JAX is tested without it
    x = np.linspace(-4, 4, 33, dtype=np.float32)
    np.testing.assert_allclose(gelu(jnp.asarray(x)), torch.nn.functional.gelu(torch.from_numpy(x)), atol=1e-6)


def test_branches_are_dropped_by_sequence_and_the_others_make_up_for_it():
    ids = jnp.tile(jnp.array([[0, 0, 0, -1, -1, -1, 1, 1]]), (500, 1))
    factors = np.asarray(_drawn(jax.random.key(0), 0.25, ids, 2))
    assert factors.shape == (2, 500, 8)
    np.testing.assert_allclose(np.unique(factors), [0, 1 / 0.75], rtol=1e-6)
    assert (factors[..., :3] == factors[..., :1]).all()
    assert (factors[..., 6] == factors[..., 7]).all()
    assert factors[..., 0].mean() == pytest.approx(1, abs=0.1)
    for other in (factors[..., 6], factors[::-1, :, 0]):  # each sequence and branch is drawn by itself
        assert abs(np.corrcoef(factors[..., 0].ravel(), other.ravel())[0, 1]) < 0.15
    assert not np.array_equal(factors, _drawn(jax.random.key(1), 0.25, ids, 2))
    # The number of rows is rounded up to one of devices, which must not change the others.
    assert np.array_equal(factors[:, :7], _drawn(jax.random.key(0), 0.25, ids[:7], 2))


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"widths": (256, 500)}, r"model\.widths: is \(256, 500\); expected multiples of 16"),
        ({"parts": 4}, r"model\.parts: is 4; expected a number that divides the 15 × 10 tokens of a frame"),
        ({"drop_path": 1.0}, r"model\.drop_path: is 1\.0; "),
    ],
)
def test_sizes_that_cannot_be_are_refused(arguments, why):
    with pytest.raises(ConfigError, match=why):
        create_model("swingait", {"num_classes": 3, **arguments}, dtype="float32")
