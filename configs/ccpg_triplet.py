"""GaitBase on CCPG.

    python -m mcl_jax.main --config configs/ccpg_triplet.py --config.data.root=DIR

No accuracy of this run is published. Its test is the gait table; the re-identification one is
`mcl-jax score --protocol ccpg_reid`.
"""

from ml_collections import ConfigDict

from mcl_jax.config import make_config


def get_config() -> ConfigDict:
    """Returns the config of this run."""
    return make_config(
        data={
            "dataset": "ccpg",
            "augment": (("cut", 1.0),),
            "sampling": {"mode": "fixed_unordered", "frames": 30},
        },
        model={"name": "gaitbase", "channels": (64, 128, 256, 512), "embed_dim": 256},
        loss={
            "triplet": {"weight": 1.0, "margin": 0.2},
            "cross_entropy": {"weight": 1.0, "scale": 16.0, "label_smoothing": 0.1},
        },
        optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
        schedule={"name": "multi_step", "milestones": (20_000, 40_000, 50_000), "gamma": 0.1},
        train={"steps": 60_000, "batch": (8, 16), "precision": "bfloat16"},
    )
