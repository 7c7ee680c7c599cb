"""GaitGL, the large form with BNNecks, on GREW.

    python -m mcl_jax.main --config configs/grew_gaitgl_necks.py --config.data.root=DIR

Published: rank-1 51.7.

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
            "sampling": {
                "mode": "fixed_ordered",
                "frames": 30,
                "skip": 0,
                "min_rate": 1,
                "max_rate": 1,
            },
        },
        model={
            "name": "gaitgl",
            "form": "large",
            "channels": (32, 64, 128, 256),
            "necks": True,
        },
        loss={
            "triplet": {"weight": 1.0, "margin": 0.2},
            "cross_entropy": {"weight": 1.0, "scale": 1.0, "label_smoothing": 0.1},
        },
        optimizer={"name": "adam", "lr": 1e-4, "weight_decay": 0.0},
        schedule={"name": "multi_step", "milestones": (150_000, 200_000), "gamma": 0.1},
        train={"steps": 250_000, "batch": (32, 4), "precision": "bfloat16"},
    )
