"""GaitSet, twice as wide, on GREW.

    python -m mcl_jax.main --config configs/grew_gaitset.py --config.data.root=DIR

Published: rank-1 46.3, rank-5 63.6, rank-10 70.3.

The GREW test set is scored by the benchmark: testing writes the submission it takes.
"""

from ml_collections import ConfigDict

from mcl_jax.config import adam, base_config, gaitset, grew, steps


def get_config() -> ConfigDict:
    """Returns the config of this run."""
    config = base_config()
    grew(config)
    gaitset(config)
    config.model.channels = (64, 128, 256)
    adam(config, lr=1e-4, weight_decay=0.0)
    steps(config, 250_000, 150_000)
    return config
