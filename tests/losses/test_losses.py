"""Losses: hand-computed values, comparison with plain loops, and invariances."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from mcl_jax.losses import cross_entropy_loss, mcl_loss, triplet_loss
from mcl_jax.losses.pairwise import pairwise_distance

# One part, one channel: distances are differences. 0 and 1 are one subject, 3 and 7 another.
LINE = jnp.array([0.0, 1.0, 3.0, 7.0]).reshape(4, 1, 1)
LINE_LABELS = jnp.array([0, 0, 1, 1])


def loop_loss(x: np.ndarray, labels: np.ndarray, margin: float, exponent: float) -> tuple[float, list[int]]:
    """The definition, term by term."""
    losses, numbers = [], []
    for part in range(x.shape[1]):
        terms = []
        for a, p, n in itertools.product(range(len(x)), repeat=3):
            if labels[a] == labels[p] and labels[a] != labels[n]:
                d_ap = math.dist(x[a, part], x[p, part]) ** exponent
                d_an = math.dist(x[a, part], x[n, part]) ** exponent
                terms.append(max(0.0, d_ap - d_an + margin))
        positive = [t for t in terms if t > 0]
        losses.append(sum(positive) / len(positive) if positive else 0.0)
        numbers.append(len(positive))
    return float(np.mean(losses)), numbers


def test_triplet_by_hand():
    # Anchor 7 is 4 from its positive 3 and 6 from the negative 1, so 4 − 6 + 2.5 counts, and so on:
    # (a, p, n) terms over 0 at margin 2.5 are (0,1,3): 0.5; (1,0,3): 1.5, (1,1,3): 0.5;
    # (3,7,0): 3.5, (3,7,1): 4.5, (3,3,1): 0.5; (7,3,1): 0.5.
    loss, metrics = triplet_loss(LINE, LINE_LABELS, margin=2.5)
    assert metrics["loss_num"].tolist() == [7]
    assert loss == pytest.approx((0.5 + 1.5 + 0.5 + 3.5 + 4.5 + 0.5 + 0.5) / 7)
    assert metrics["hard_loss"].tolist() == [4.5]
    # 12 ordered pairs and 4 zeros: (1 + 3 + 7 + 2 + 6 + 4) · 2 / 16.
    assert metrics["mean_dist"].tolist() == pytest.approx([23 * 2 / 16])


def test_mcl_by_hand():
    # Squared distances at gamma 1: the only terms over 0 at margin 1 are (3,7,0): 16 − 9 + 1 and
    # (3,7,1): 16 − 4 + 1.
    loss, metrics = mcl_loss(LINE, LINE_LABELS, margin=1.0, gamma=1.0)
    assert metrics["loss_num"].tolist() == [2]
    assert loss == pytest.approx((8 + 13) / 2)
    assert metrics["mean_dist"].tolist() == pytest.approx([23 * 2 / 16])


def test_mcl_without_exponent_is_the_triplet_loss():
    x = jax.random.normal(jax.random.key(0), (6, 2, 3))
    labels = jnp.array([0, 0, 1, 1, 2, 2])
    assert mcl_loss(x, labels, margin=0.2, gamma=0.0)[0] == pytest.approx(triplet_loss(x, labels)[0])


def test_cross_entropy_by_hand():
    # Two classes with logits 1 and 0, scale 2, no smoothing: −log(e² / (e² + 1)).
    logits = jnp.array([[[1.0, 0.0]]])
    loss, metrics = cross_entropy_loss(logits, jnp.array([0]), scale=2.0, label_smoothing=0.0)
    assert loss == pytest.approx(math.log(1 + math.exp(-2)))
    assert metrics["accuracy"] == 1
    # Smoothing 0.5 mixes in the mean over both classes.
    other = math.log(1 + math.exp(2))
    smooth, _ = cross_entropy_loss(logits, jnp.array([0]), scale=2.0, label_smoothing=0.5)
    assert smooth == pytest.approx(0.75 * math.log(1 + math.exp(-2)) + 0.25 * other)


@settings(max_examples=12)
@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=7),
    seed=st.integers(0, 10),
    gamma=st.sampled_from([0.0, 0.6, 1.0]),
)
def test_any_multiset_of_labels_agrees_with_the_loop(labels: list[int], seed: int, gamma: float):
    x = np.random.default_rng(seed).normal(size=(len(labels), 2, 3)).astype(np.float32)
    loss, metrics = mcl_loss(jnp.asarray(x), jnp.asarray(labels), 0.3, gamma)
    expected, numbers = loop_loss(x.astype(np.float64), np.array(labels), 0.3, 1 + gamma)
    assert loss == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert metrics["loss_num"].tolist() == numbers


@pytest.mark.parametrize("loss", [triplet_loss, mcl_loss])
@pytest.mark.parametrize(
    "labels", [[0, 0, 0, 0], [0, 1, 2, 3], [0, 0, 1, 1]], ids=["one subject", "no positives", "two subjects"]
)
def test_gradient_is_finite_for_equal_embeddings(loss, labels):
    x = jnp.ones((4, 2, 3))
    gradient = jax.jit(jax.grad(lambda x: loss(x, jnp.array(labels))[0]))(x)
    assert jnp.isfinite(gradient).all()


def test_only_one_subject_gives_zero():
    loss, metrics = triplet_loss(LINE, jnp.zeros(4, int))
    assert loss == 0
    assert metrics["loss_num"].tolist() == [0]


@pytest.mark.parametrize("loss", [triplet_loss, mcl_loss])
def test_gradients_against_finite_differences(loss):
    with jax.enable_x64(True):
        x = jax.random.normal(jax.random.key(1), (6, 2, 3), jnp.float64)
        labels = jnp.array([0, 0, 0, 1, 1, 2])
        check_grads(lambda x: loss(jnp.asarray(x), labels)[0], (x,), order=1, modes=("rev",))


@pytest.mark.parametrize("loss", [triplet_loss, mcl_loss])
def test_invalid_rows_change_nothing(loss):
    x = jax.random.normal(jax.random.key(2), (5, 2, 3))
    labels = jnp.array([0, 0, 1, 1, 2])
    padded = jnp.concatenate([x, 100 * jnp.ones((3, 2, 3))])
    padded_labels = jnp.concatenate([labels, jnp.array([-1, -1, -1])])

    def value_gradient(x, labels, valid):
        return jax.value_and_grad(lambda x: loss(x, labels, valid=valid), has_aux=True)(x)

    (expected, metrics), gradient = value_gradient(x, labels, None)
    (masked, masked_metrics), masked_gradient = value_gradient(padded, padded_labels, padded_labels >= 0)
    assert masked == pytest.approx(expected)
    assert np.asarray(masked_gradient[:5]) == pytest.approx(np.asarray(gradient), abs=1e-6)
    assert not masked_gradient[5:].any()
    for key in metrics:
        assert np.asarray(masked_metrics[key]) == pytest.approx(np.asarray(metrics[key]), rel=1e-5), key


def test_invalid_rows_change_nothing_in_cross_entropy():
    logits = jax.random.normal(jax.random.key(3), (3, 2, 4))
    labels = jnp.array([0, 3, 1])
    expected, metrics = cross_entropy_loss(logits, labels)
    padded = jnp.concatenate([logits, jnp.ones((2, 2, 4))])
    masked, masked_metrics = cross_entropy_loss(
        padded, jnp.array([0, 3, 1, -1, -1]), valid=jnp.array([True, True, True, False, False])
    )
    assert masked == pytest.approx(expected)
    assert masked_metrics["accuracy"] == pytest.approx(metrics["accuracy"])


def test_distance_to_itself_is_exactly_zero():
    x = 1e3 * jax.random.normal(jax.random.key(4), (8, 3, 16))
    assert not jnp.diagonal(pairwise_distance(x), axis1=1, axis2=2).any()


def test_triplets_are_never_stored():
    # [parts, n, n, n] of this batch would be 1 GB.
    x = jax.ShapeDtypeStruct((256, 16, 8), jnp.float32)
    labels = jax.ShapeDtypeStruct((256,), jnp.int32)
    step = jax.jit(jax.grad(lambda x, labels: mcl_loss(x, labels)[0]))
    memory = step.lower(x, labels).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 200e6
