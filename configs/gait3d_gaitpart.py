r"""GaitPart on Gait3D.

    python -m mcl_jax.main --config configs/gait3d_gaitpart.py --config.data.root=DIR \
        --config.data.partition=Gait3D.json

Published: rank-1 28.2. The settings of that run are not; these are those of Gait3D-Parsing's.
"""

from ml_collections import ConfigDict

from mcl_jax.config import make_config


def get_config() -> ConfigDict:
    """Returns the config of this run."""
    return make_config(
        data={
            "dataset": "gait3d",
            "augment": (("cut", 1.0),),
            "sampling": {
                "mode": "fixed_ordered",
                "frames": 30,
                "skip": 10,
                "min_rate": 1,
                "max_rate": 1,
            },
        },
        model={"name": "gaitpart", "channels": (32, 64, 128), "strips": (1, 4, 8), "embed_dim": 128},
        loss={"triplet": {"weight": 1.0, "margin": 0.2}},
        optimizer={"name": "adam", "lr": 1e-3, "weight_decay": 5e-4},
        schedule={"name": "multi_step", "milestones": (30_000, 90_000), "gamma": 0.1},
        train={"steps": 180_000, "batch": (32, 4), "precision": "bfloat16"},
    )
