r"""FoundationGait's DeepGaitV2 (0.03B) on Gait3D, started from its pre-trained weights.

    python -m mcl_jax.main --config configs/gait3d_foundationgait.py --config.data.root=DIR \
        --config.data.partition=Gait3D.json --config.init_from=F.pt

F.pt is a checkpoint of FoundationGait's pre-training. The first layers stay as they are there; the last two
stages and the projector learn more slowly than the new head.

No accuracy of this run is published.
"""

from ml_collections import ConfigDict

from mcl_jax.config import make_config


def get_config() -> ConfigDict:
    """Returns the config of this run."""
    return make_config(
        data={
            "dataset": "gait3d",
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
            "name": "foundationgait",
            "mode": "p3d",
            "layers": (1, 4, 8, 4),
            "channels": (64, 128, 256, 512),
            "bins": (16, 8, 4, 2, 1),
            "embed_dim": 256,
            "crops": (2, 2, 2, 2, 1, 1, 1, 1),
        },
        loss={
            "triplet": {"weight": 1.0, "margin": 0.2},
            "cross_entropy": {"weight": 1.0, "scale": 16.0, "label_smoothing": 0.1},
        },
        optimizer={
            "name": "sgd",
            "lr": 0.1,
            "momentum": 0.9,
            "weight_decay": 0.0,
            "groups": (
                ("^stem/", 0.0, 1.0),  # a rate of 0 freezes a layer
                ("^stages/0/", 0.0, 1.0),
                ("^stages/1/", 0.0, 1.0),
                ("^stages/2/", 0.01, 1.0),
                ("^stages/3/", 0.05, 1.0),
                ("^projector/", 0.1, 1.0),
            ),
        },
        schedule={"name": "multi_step", "milestones": (3_000,), "gamma": 0.1},
        train={
            "steps": 4_000,
            "batch": (128, 4),
            "precision": "bfloat16",
            "fit_partly": True,
            "keep_classifier": True,
        },
    )
