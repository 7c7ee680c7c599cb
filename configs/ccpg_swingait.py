"""SwinGait, the shallow one, on CCPG, started from DeepGaitV2-P3D.

    python -m mcl_jax.main --config configs/ccpg_swingait.py --config.data.root=DIR --config.init_from=F.pt

F.pt is a checkpoint, or a run, of DeepGaitV2-P3D trained on the same people, such as `ccpg_deepgaitv2`.

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
            "name": "swingait",
            "layers": (1, 1, 2, 2),
            "channels": (64, 128),
            "widths": (256, 512),
        },
        loss={
            "triplet": {"weight": 1.0, "margin": 0.2},
            "cross_entropy": {"weight": 1.0, "scale": 16.0, "label_smoothing": 0.1},
        },
        optimizer={
            "name": "adamw",
            "lr": 3e-4,
            "weight_decay": 0.02,
            "groups": (
                ("^(stem|stages|head)/", 0.1, 1.0),  # all but the transformer learns a tenth as fast
                ("^(tokens|norm)/|^windows/.*/(norm|table)", 1.0, 0.0),  # and these do not decay
            ),
        },
        schedule={"name": "stepped_cosine", "steps": 60_000},
        train={
            "steps": 80_000,
            "batch": (8, 16),
            "precision": "bfloat16",
            "fit_partly": True,
            "keep_classifier": True,
        },
    )
