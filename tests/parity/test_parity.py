"""mcl_jax's models against PyTorch: forward passes, gradients, statistics, and six updates."""

import measure
import measure_losses
import pytest
from measure import TOLERANCES, VARIANTS

# The compiled programs are made once per model: keep a model's tests in one process.
# `make test` has one model at its published size and GaitBase at others, `make test-all` all of them.
IN_MAKE_TEST = ("gaitset",)
by_variant = pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=[pytest.mark.xdist_group(name), *[pytest.mark.slow] * (name not in IN_MAKE_TEST)]
        )
        for name in VARIANTS
    ],
)


# OpenGait's distance of an embedding to itself is what rounding leaves, up to 1e-8 instead of 0. The
# embeddings of an untrained GaitSet, GaitPart or large GaitGL are so much alike that this shows in the
# gradients of the triplet loss, or in its value.
# SwinGait's gradients are stored in float32.
NOISE_OF_THE_REFERENCE = {
    "gaitset": {"gradients": 3e-7},
    "gaitpart": {"gradients": 1e-6},
    "gaitgl_large": {"metric loss per part": 2e-8},
    "swingait": {"gradients": 1e-6, "losses of three AdamW steps": 1e-6},
}


def assert_within_tolerance(errors, exceptions=()):
    assert errors
    tolerances = TOLERANCES | dict(exceptions)
    assert {name: error for name, error in errors.items() if not error <= tolerances[name]} == {}


@by_variant
def test_on_random_inputs(name):
    name = measure.NARROW.get(name, name)
    errors = measure.measure_test_mode(name) | measure.measure_training(name)
    assert {"gradients", "batch statistics", "losses of six Adam steps"} <= errors.keys()
    assert_within_tolerance(errors)


@pytest.mark.parametrize(
    "name",
    [
        "gaitbase_sizes",
        "gaitbase_plain",
        *[
            pytest.param(n, marks=pytest.mark.slow)
            for n in ("gaitset_bins", "swingait_narrow", "foundationgait")
        ],
    ],
)
def test_other_sizes_in_a_test(name):
    assert_within_tolerance(measure.measure_test_mode(name))


@pytest.mark.slow
def test_training_plain_convolutions():
    errors = measure.measure_training("gaitbase_plain")
    assert {"gradients", "batch statistics", "losses of six Adam steps"} <= errors.keys()
    assert_within_tolerance(errors)


@pytest.mark.slow
def test_other_sizes_with_frozen_batch_norms():
    assert_within_tolerance(measure.measure_frozen_training("gaitbase_sizes"))


@by_variant
@pytest.mark.slow
def test_on_figures_of_the_reference(name, shared_parity, real_silhouettes):
    assert_within_tolerance(measure.measure_reference_test_mode(name, shared_parity, real_silhouettes))
    errors = measure.measure_reference_training(name, shared_parity, real_silhouettes)
    assert_within_tolerance(errors, NOISE_OF_THE_REFERENCE.get(name, {}))


# One of each model: the others differ in sizes alone.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.xdist_group(name))
        for name in VARIANTS
        if name not in ("gaitgl_large", "gaitgl_bnneck", "deepgaitv2_2d", "deepgaitv2_3d")
    ],
)
@pytest.mark.slow
def test_bfloat16_embeddings_point_the_same_way(name, shared_parity, real_silhouettes):
    smallest, mean = measure.measure_bfloat16(name, shared_parity, real_silhouettes)
    assert smallest > 0.99
    assert mean > 0.999


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_losses_on_random_inputs(dtype):
    assert_within_tolerance(measure_losses.measure_losses(dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.slow
def test_losses_on_figures_of_the_reference(dtype, shared_parity):
    assert_within_tolerance(measure_losses.measure_reference_losses(dtype, shared_parity))
