r"""GaitBase on OU-MVLP.

    python -m mcl_jax.main --config configs/oumvlp_triplet.py --config.data.root=DIR \
        --config.data.partition=OUMVLP.json

Published: rank-1 90.8, identical views left out.
"""

from ml_collections import ConfigDict

from mcl_jax.config import make_config


def get_config() -> ConfigDict:
    """Returns the config of this run."""
    return make_config(
        data={
            "dataset": "oumvlp",
            "augment": (("cut", 1.0),),
            "sampling": {"mode": "fixed_unordered", "frames": 30},
        },
        model={"name": "gaitbase", "channels": (64, 128, 256, 512), "embed_dim": 256},
        loss={
            "triplet": {"weight": 1.0, "margin": 0.2},
            "cross_entropy": {"weight": 1.0, "scale": 16.0, "label_smoothing": 0.1},
        },
        optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
        schedule={"name": "multi_step", "milestones": (60_000, 80_000, 100_000), "gamma": 0.1},
        train={"steps": 120_000, "batch": (32, 8), "precision": "bfloat16"},
    )
