"""GaitGL with MCL on CASIA-B.

    python -m mcl_jax.main --config configs/casiab_gaitgl_mcl.py --config.data.root=DIR

Published by nobody, and trained by nobody yet: `casiab_gaitgl` with the MCL loss of
`casiab_mcl` in place of the triplet loss.
MCL takes any batch P × K with two sequences a subject or more, as the triplet loss does.
"""

from ml_collections import ConfigDict

from mcl_jax.config import make_config


def get_config() -> ConfigDict:
    """Returns the config of this run."""
    return make_config(
        data={
            "dataset": "casiab",
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
            "mcl": {"weight": 1.0, "margin": 0.6, "gamma": 0.6},
            "cross_entropy": {"weight": 1.0, "scale": 1.0, "label_smoothing": 0.0},
        },
        optimizer={"name": "adam", "lr": 1e-4, "weight_decay": 5e-4},
        schedule={"name": "multi_step", "milestones": (70_000,), "gamma": 0.1},
        train={"steps": 80_000, "batch": (8, 8), "precision": "bfloat16"},
    )
