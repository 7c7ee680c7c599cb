r"""GaitGL, the large form, on OU-MVLP.

    python -m mcl_jax.main --config configs/oumvlp_gaitgl.py --config.data.root=DIR \
        --config.data.partition=OUMVLP.json

Published: rank-1 89.9, identical views left out.
"""

from ml_collections import ConfigDict

from mcl_jax.config import make_config


def get_config() -> ConfigDict:
    """Returns the config of this run."""
    return make_config(
        data={
            "dataset": "oumvlp",
            "augment": (("cut", 1.0),),
            "sampling": {
                "mode": "fixed_ordered",
                "frames": 30,
                "skip": 0,
                "min_rate": 1,
                "max_rate": 1,
            },
        },
        model={"name": "gaitgl", "form": "large", "channels": (32, 64, 128, 256)},
        loss={
            "triplet": {"weight": 1.0, "margin": 0.2},
            "cross_entropy": {"weight": 1.0, "scale": 1.0, "label_smoothing": 0.1},
        },
        optimizer={"name": "adam", "lr": 1e-4, "weight_decay": 0.0},
        schedule={"name": "multi_step", "milestones": (150_000, 200_000), "gamma": 0.1},
        train={"steps": 210_000, "batch": (32, 8), "precision": "bfloat16"},
    )
