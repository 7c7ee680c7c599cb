"""DeepGaitV2-3D with MCL on GREW.

    python -m mcl_jax.main --config configs/grew_deepgaitv2_mcl.py --config.data.root=DIR

Published by nobody, and trained by nobody yet: `grew_deepgaitv2` with the MCL loss of
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
            "augment": (("perspective", 0.2), ("cut", 1.0), ("flip", 0.2), ("rotate", 0.2)),
            "sampling": {
                "mode": "fixed_ordered",
                "frames": 30,
                "skip": 4,
                "min_rate": 1,
                "max_rate": 1,
            },
        },
        model={
            "name": "deepgaitv2",
            "mode": "3d",
            "layers": (1, 4, 4, 1),
            "channels": (64, 128, 256, 512),
        },
        loss={
            "mcl": {"weight": 1.2, "margin": 0.6, "gamma": 0.6},
            "cross_entropy": {"weight": 0.8, "scale": 16.0, "label_smoothing": 0.1},
        },
        optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
        schedule={"name": "multi_step", "milestones": (80_000, 120_000, 150_000), "gamma": 0.1},
        train={"steps": 180_000, "batch": (32, 4), "precision": "bfloat16"},
    )
