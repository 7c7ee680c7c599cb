"""A short version of tests/devices/layouts.py: one device and four, packed rows that do not divide."""

import jax
import numpy as np
import pytest
from layouts import difference, in_a_row, toy_config, train
from toy_runs import toy_config_of

from mcl_jax.build import build_dataset, build_train_loader
from mcl_jax.runtime.mesh import data_mesh


@pytest.mark.parametrize(("lengths", "chunks"), [("drawn", 1), ("fixed", 3)])
def test_four_devices_train_like_one(people, lengths, chunks):
    config = toy_config(people, lengths=lengths, rate=1e-4)
    config.train.accumulate = chunks
    with jax.enable_x64(True):
        (_, one, losses), (_, four, losses_of_four) = [
            train(config, data_mesh(jax.devices()[:count]), 3) for count in (1, 4)
        ]
        moved = jax.tree.map(lambda x: bool(np.any(x)), one.opt_state)
        assert difference(losses, losses_of_four) < 1e-10
        assert difference(in_a_row(one), in_a_row(four)) < 1e-10
    assert jax.tree.all(moved)


@pytest.mark.parametrize("name", ["gaitpart", "gaitgl", "swingait"])
def test_four_devices_train_models_over_time_like_one(people, name):
    config = toy_config_of(people, name)
    with jax.enable_x64(True):
        (_, one, losses), (_, four, losses_of_four) = [
            train(config, data_mesh(jax.devices()[:count]), 2) for count in (1, 4)
        ]
        assert difference(losses, losses_of_four) < 1e-10
        assert difference(in_a_row(one), in_a_row(four)) < 1e-10


def test_rows_of_fitting_sizes_train_like_those_of_one(people):
    config = toy_config(people, lengths="drawn", rate=1e-4)
    config.train.batch, config.data.sampling.max_frames = (2, 2), 6
    outcomes, sizes = [], []
    with jax.enable_x64(True):
        for config.train.row_sizes in (2, 1):
            _, state, losses = train(config, data_mesh(jax.devices()[:1]), 2)
            outcomes.append((losses, in_a_row(state)))
            loader = build_train_loader(config, build_dataset(config).train_split())
            sizes.append({loader(step)["segment_ids"].shape[1] for step in range(2)})
    assert sizes == [{24}, {28}]
    for fitting, one in zip(*outcomes, strict=True):
        assert difference(one, fitting) < 1e-10
