"""A short version of tests/devices/layouts.py: one device and four, packed rows that do not divide."""

import jax
import numpy as np
from layouts import difference, in_a_row, toy_config, train

from mcl_jax.sharding import data_mesh


def test_four_devices_train_like_one(people):
    config = toy_config(people, lengths="drawn", rate=1e-4)
    with jax.enable_x64(True):
        (_, one, losses), (_, four, losses_of_four) = [
            train(config, data_mesh(jax.devices()[:count]), 3) for count in (1, 4)
        ]
        moved = jax.tree.map(lambda x: bool(np.any(x)), one.opt_state)
        assert difference(losses, losses_of_four) < 1e-10
        assert difference(in_a_row(one), in_a_row(four)) < 1e-10
    assert jax.tree.all(moved)
