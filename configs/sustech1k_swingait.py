r"""SwinGait, the shallow one, on SUSTech1K, started from DeepGaitV2-P3D.

    python -m mcl_jax.main --config configs/sustech1k_swingait.py --config.data.root=DIR \
        --config.data.partition=SUSTech1K.json --config.init_from=F.pt

F.pt is a checkpoint, or a run, of DeepGaitV2-P3D trained on the same people, such as `sustech1k_deepgaitv2`.

Published: rank-1 NM 86.2, BG 81.3, CL 47.4, CR 79.3, UB 81.6, UF 83.1, OC 85.6, NT 28.5, all 79.7;
rank-5 of all 91.8.

Clips are drawn as for `sustech1k_deepgaitv2`. Versions of OpenGait's two configs differ: some draw unordered
frames.
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
        schedule={"name": "stepped_cosine", "steps": 50_000},
        train={
            "steps": 60_000,
            "batch": (8, 8),
            "precision": "bfloat16",
            "fit_partly": True,
            "keep_classifier": True,
        },
    )
