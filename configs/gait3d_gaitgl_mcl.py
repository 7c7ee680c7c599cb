r"""GaitGL with MCL on Gait3D.

    python -m mcl_jax.main --config configs/gait3d_gaitgl_mcl.py --config.data.root=DIR \
        --config.data.partition=Gait3D.json

Published by nobody, and trained by nobody yet: `gait3d_gaitgl` with the MCL loss of
`gait3d_mcl` in place of the triplet loss.
MCL takes any batch P × K with two sequences a subject or more, as the triplet loss does.
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
                "skip": 0,
                "min_rate": 1,
                "max_rate": 1,
            },
        },
        model={"name": "gaitgl", "form": "small", "channels": (32, 64, 128)},
        loss={
            "mcl": {"weight": 1.2, "margin": 0.6, "gamma": 0.6},
            "cross_entropy": {"weight": 0.8, "scale": 1.0, "label_smoothing": 0.0},
        },
        optimizer={"name": "adam", "lr": 1e-3, "weight_decay": 5e-4},
        schedule={"name": "multi_step", "milestones": (30_000, 90_000), "gamma": 0.1},
        train={"steps": 180_000, "batch": (32, 4), "precision": "bfloat16"},
    )
