"""GaitSet, twice as wide, on GREW.

    python -m mcl_jax.main --config configs/grew_gaitset.py --config.data.root=DIR

Published: rank-1 46.3, rank-5 63.6, rank-10 70.3.

The GREW test set is scored by the benchmark: testing writes the submission it takes.
"""

from ml_collections import ConfigDict

from mcl_jax.config import make_config


def get_config() -> ConfigDict:
    """Returns the config of this run."""
    return make_config(
        data={
            "dataset": "grew",
            "augment": (("cut", 1.0),),
            "sampling": {"mode": "fixed_unordered", "frames": 30},
        },
        model={"name": "gaitset", "channels": (64, 128, 256), "embed_dim": 256},
        loss={"triplet": {"weight": 1.0, "margin": 0.2}},
        optimizer={"name": "adam", "lr": 1e-4, "weight_decay": 0.0},
        schedule={"name": "multi_step", "milestones": (150_000,), "gamma": 0.1},
        train={"steps": 250_000, "batch": (32, 4), "precision": "bfloat16"},
    )
