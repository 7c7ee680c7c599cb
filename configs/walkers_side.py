r"""Synthetic people seen from the side: the model of the tutorial, trained on two cores in minutes.

    mcl-jax walkers --out people --subjects 250 --test-subjects 50 --views 090 --frames 25
    mcl-jax train --config walkers_side --workdir run \
        --config.data.root=people --config.data.partition=people_partition.json

In a checkout `--config configs/walkers_side.py` is the same. What it is worth is in docs/tutorial.md.
"""

from ml_collections import ConfigDict

from mcl_jax.config import make_config


def get_config() -> ConfigDict:
    """Returns the config of this run."""
    return make_config(
        data={
            "dataset": "walkers",
            "workers": 1,
            "augment": (("cut", 1.0), ("flip", 0.5)),
            "sampling": {"mode": "fixed_unordered", "frames": 10},
        },
        model={"name": "gaitenergy", "channels": (16, 32, 64), "gates": 8, "embed_dim": 64},
        loss={
            "mcl": {"weight": 1.0, "margin": 0.6, "gamma": 0.6},
            "cross_entropy": {"weight": 1.0, "scale": 16.0, "label_smoothing": 0.1},
        },
        optimizer={"name": "adam", "lr": 2e-3, "weight_decay": 1e-4},
        schedule={"name": "multi_step", "milestones": (250, 350), "gamma": 0.2},
        train={
            "steps": 400,
            "batch": (16, 4),
            "precision": "float32",
            "log_every": 50,
            "save_every": 400,
        },
        # There is one view, and thresholds are for walks that are seen from it, all of them.
        eval={"protocol": "casiab_all_views"},
    )
