r"""DeepGaitV2-P3D, the shallow one, on SUSTech1K.

    python -m mcl_jax.main --config configs/sustech1k_deepgaitv2.py --config.data.root=DIR \
        --config.data.partition=SUSTech1K.json

Published: rank-1 NM 87.5, BG 84.1, CL 53.4, CR 81.3, UB 86.2, UF 84.8, OC 88.5, NT 28.8, all 82.4;
rank-5 of all 92.6.
"""

from ml_collections import ConfigDict

from mcl_jax.config import make_config


def get_config() -> ConfigDict:
    """Returns the config of this run."""
    return make_config(
        data={
            "dataset": "sustech1k",
            "augment": (("perspective", 0.2), ("cut", 1.0), ("flip", 0.2), ("rotate", 0.2)),
            "sampling": {
                "mode": "fixed_ordered",
                "frames": 10,
                "skip": 4,
                "min_rate": 1,
                "max_rate": 1,
            },
        },
        model={
            "name": "deepgaitv2",
            "mode": "p3d",
            "layers": (1, 1, 1, 1),
            "channels": (64, 128, 256, 512),
        },
        loss={
            "triplet": {"weight": 1.0, "margin": 0.2},
            "cross_entropy": {"weight": 1.0, "scale": 16.0, "label_smoothing": 0.1},
        },
        optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
        schedule={"name": "multi_step", "milestones": (20_000, 30_000, 40_000), "gamma": 0.1},
        train={"steps": 50_000, "batch": (8, 8), "precision": "bfloat16"},
    )
