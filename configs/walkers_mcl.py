"""The demo: a small GaitBase with MCL on synthetic people, on a CPU.

    make demo

or, with data made by scripts/make_walkers.py,

    python -m mcl_jax.main --config configs/walkers_mcl.py --config.data.root=DIR/data \
        --config.data.partition=DIR/partition.json
"""

from ml_collections import ConfigDict

from mcl_jax.config import base_config, mcl, unordered


def get_config() -> ConfigDict:
    """Returns the config of this run."""
    config = base_config()
    config.data.dataset = "walkers"
    config.data.workers = 1
    config.model.channels = (16, 32, 64, 128)
    config.model.embed_dim = 64
    config.train.batch = (8, 8)
    config.train.steps = 300
    config.train.precision = "float32"
    config.train.log_every = 20
    config.train.save_every = 100
    config.optimizer.milestones = (200, 260)
    unordered(config, 10)
    mcl(config, weight=1.0, ce_weight=1.0)
    return config
