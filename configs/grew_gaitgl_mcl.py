"""GaitGL, the large form, with MCL on GREW.

    python -m mcl_jax.main --config configs/grew_gaitgl_mcl.py --config.data.root=DIR

Published by nobody, and trained by nobody yet: `grew_gaitgl` with the MCL loss of
`grew_mcl` in place of the triplet loss.
MCL takes any batch P × K with two sequences a subject or more, as the triplet loss does.

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
        model={"name": "gaitgl", "form": "large", "channels": (32, 64, 128, 256)},
        loss={
            "mcl": {"weight": 1.2, "margin": 0.6, "gamma": 0.6},
            "cross_entropy": {"weight": 0.8, "scale": 1.0, "label_smoothing": 0.1},
        },
        optimizer={"name": "adam", "lr": 1e-4, "weight_decay": 0.0},
        schedule={"name": "multi_step", "milestones": (150_000, 200_000), "gamma": 0.1},
        train={"steps": 250_000, "batch": (32, 4), "precision": "bfloat16"},
    )
