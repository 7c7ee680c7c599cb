r"""GaitBase on HID: OpenGait's baseline of the competition, with plain convolutions on frames of 128×88.

    python -m mcl_jax.main --config configs/hid_triplet.py --config.data.root=DIR \
        --config.data.partition=HID.json

Published: 68.7 in the competition of 2022, 80.0 with re-ranking (OpenGait's page on HID). Only the
competition knows the labels of the probes: testing writes a submission for it, which
`--config.eval.rerank=True` re-ranks.
"""

from ml_collections import ConfigDict

from mcl_jax.config import make_config


def get_config() -> ConfigDict:
    """Returns the config of this run."""
    return make_config(
        data={
            "dataset": "hid_128",
            "augment": (("cut", 1.0),),
            "sampling": {"mode": "fixed_unordered", "frames": 30},
        },
        model={
            "name": "gaitbase",
            "backbone": "plain",
            "channels": (64, 128, 256, 512),
            "bins": (16, 8, 4, 2, 1),
            "embed_dim": 256,
        },
        loss={
            "triplet": {"weight": 1.0, "margin": 0.2},
            "cross_entropy": {"weight": 0.1, "scale": 16.0, "label_smoothing": 0.1},
        },
        optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
        schedule={"name": "multi_step", "milestones": (20_000, 40_000), "gamma": 0.1},
        train={"steps": 60_000, "batch": (16, 8), "precision": "bfloat16"},
    )
