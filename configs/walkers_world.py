r"""Synthetic people in the small, noisy pictures of old footage: the model in the package, trained on a CPU.

    python -m mcl_jax.main --config configs/walkers_world.py --workdir world/run \
        --config.data.root=world/walkers --config.data.partition=world/walkers_partition.json

The data and the command are those of `make world`; what it is worth is in docs/real_people.md.
"""

from ml_collections import ConfigDict

from mcl_jax.config import make_config

STEPS = 2_600


def get_config() -> ConfigDict:
    """Returns the config of this run."""
    return make_config(
        data={
            "dataset": "walkers",
            "workers": 1,
            "augment": (("cut", 1.0), ("flip", 0.5), ("erase", 0.3)),
            "sampling": {"mode": "fixed_unordered", "frames": 8},
        },
        model={"name": "gaitpocket", "channels": (8, 32, 32, 64), "embed_dim": 64},
        loss={
            "mcl": {"weight": 1.0, "margin": 0.6, "gamma": 0.6},
            "cross_entropy": {"weight": 1.0, "scale": 16.0, "label_smoothing": 0.1},
        },
        optimizer={"name": "adam", "lr": 2e-3, "weight_decay": 1e-4},
        schedule={"name": "cosine", "steps": STEPS, "warmup": 100},
        train={
            "steps": STEPS,
            "batch": (16, 4),
            "precision": "float32",
            "log_every": 50,
            "save_every": 200,
        },
        # CASIA-B's protocol needs more than one view; benchmarks/real_people.py scores this run.
        eval={"protocol": "none"},
    )
