r"""GaitBase on Gait3D-Parsing.

    python -m mcl_jax.main --config configs/gait3d_parsing_triplet.py --config.data.root=DIR \
        --config.data.partition=Gait3D.json

Published: rank-1 71.2, mAP 64.1.
"""

from ml_collections import ConfigDict

from mcl_jax.config import make_config


def get_config() -> ConfigDict:
    """Returns the config of this run."""
    return make_config(
        data={
            "dataset": "gait3d_parsing",
            "augment": (("cut", 1.0),),
            "sampling": {"mode": "fixed_unordered", "frames": 30},
        },
        model={"name": "gaitbase", "channels": (64, 128, 256, 512), "embed_dim": 256},
        loss={
            "triplet": {"weight": 1.0, "margin": 0.2},
            "cross_entropy": {"weight": 1.0, "scale": 16.0, "label_smoothing": 0.1},
        },
        optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
        schedule={"name": "multi_step", "milestones": (40_000, 80_000, 100_000), "gamma": 0.1},
        train={"steps": 120_000, "batch": (32, 2), "precision": "bfloat16"},
    )
