r"""The demo with the triplet loss instead of MCL, to compare the two on the same people.

    python -m mcl_jax.main --config configs/walkers_triplet.py \
        --config.data.root=demo/walkers --config.data.partition=demo/walkers_partition.json

The data are made by `make demo`, or by scripts/make_walkers.py.
"""

from ml_collections import ConfigDict

from mcl_jax.config import make_config


def get_config() -> ConfigDict:
    """Returns the config of this run."""
    return make_config(
        data={
            "dataset": "walkers",
            "workers": 1,
            "augment": (("cut", 1.0),),
            "sampling": {"mode": "fixed_unordered", "frames": 4},
        },
        model={"name": "gaitbase", "channels": (8, 16, 32, 64), "embed_dim": 64},
        loss={
            "triplet": {"weight": 1.0, "margin": 0.2},
            "cross_entropy": {"weight": 1.0, "scale": 16.0, "label_smoothing": 0.1},
        },
        optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
        schedule={"name": "multi_step", "milestones": (400, 540), "gamma": 0.1},
        train={
            "steps": 600,
            "batch": (8, 8),
            "precision": "float32",
            "log_every": 50,
            "save_every": 100,
        },
    )
