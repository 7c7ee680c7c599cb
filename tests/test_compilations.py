"""A run compiles one step for each row size, and everything else once."""

import re
from collections import Counter

import jax
import numpy as np
import pytest

import mcl_jax
from mcl_jax import train_loop
from mcl_jax.runtime.mesh import put_rows

PROGRAMS = ("guarded_step", "embed")


@pytest.fixture
def compiled(caplog):
    """Returns a function: our programs compiled since it was last called, name → times."""
    jax.config.update("jax_log_compiles", True)

    def programs() -> Counter[str]:
        found = [re.match(r"Compiling jit\((\w+)\)", record.getMessage()) for record in caplog.records]
        caplog.clear()
        return Counter(match[1] for match in found if match and match[1] in PROGRAMS)

    yield programs
    jax.config.update("jax_log_compiles", False)


def test_drawn_lengths_and_a_test_in_the_middle(people, tmp_path, compiled, monkeypatch):
    shapes = []

    def put(batch, mesh):
        if "segment_ids" in batch:
            shapes.append(batch["segment_ids"].shape)
        return put_rows(batch, mesh)

    monkeypatch.setattr(train_loop, "put_rows", put)
    overrides = {
        "data.root": str(people),
        "data.partition": str(people.parent / f"{people.name}_partition.json"),
        "data.workers": 0,
        "data.sampling.mode": "unfixed_unordered",
        "data.sampling.min_frames": 2,
        "data.sampling.max_frames": 6,
        "model.channels": (2, 2, 3, 3),
        "model.embed_dim": 3,
        "train.batch": (2, 2),
        "train.log_every": 1,
        "train.save_every": 2,
        "train.test_every": 2,
        "train.steps": 5,
    }
    mcl_jax.train("walkers_mcl", tmp_path, overrides=overrides)
    assert 1 < len(set(shapes)) < len(shapes)
    assert compiled() == {"guarded_step": len(set(shapes)), "embed": 1}


def test_walks_of_any_length_share_programs(toy_run, compiled):
    gait = mcl_jax.load(toy_run)
    rng = np.random.default_rng(0)
    walks = [rng.integers(0, 256, (n, 64, 44), np.uint8) for n in rng.integers(20, 121, 60)]
    compiled()
    gait.embed(walks)
    assert 1 <= compiled()["embed"] <= 4  # the ordinary rows, and the ladder's for the last
    gait.embed(walks)
    assert not compiled()
