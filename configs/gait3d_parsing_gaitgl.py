r"""GaitGL on Gait3D-Parsing.

    python -m mcl_jax.main --config configs/gait3d_parsing_gaitgl.py --config.data.root=DIR \
        --config.data.partition=Gait3D.json

Published: rank-1 47.7, mAP 36.2.
"""

from ml_collections import ConfigDict

from mcl_jax.config import make_config


def get_config() -> ConfigDict:
    """Returns the config of this run."""
    return make_config(
        data={
            "dataset": "gait3d_parsing",
            "augment": (("cut", 1.0),),
            "sampling": {
                "mode": "fixed_ordered",
                "frames": 30,
                "skip": 0,
                "min_rate": 1,
                "max_rate": 1,
            },
        },
        model={"name": "gaitgl", "form": "small", "channels": (32, 64, 128)},
        loss={
            "triplet": {"weight": 1.0, "margin": 0.2},
            "cross_entropy": {"weight": 1.0, "scale": 1.0, "label_smoothing": 0.0},
        },
        optimizer={"name": "adam", "lr": 1e-3, "weight_decay": 5e-4},
        schedule={"name": "multi_step", "milestones": (30_000, 90_000), "gamma": 0.1},
        train={"steps": 180_000, "batch": (32, 4), "precision": "bfloat16"},
        eval={"metric": "cos"},
    )
