"""GaitBase with triplet loss on GREW.

    python -m mcl_jax.main --config configs/grew_triplet.py --config.data.root=DIR

Published: rank-1 60.1.

The GREW test set is scored by the benchmark: testing writes the submission it takes.
"""

from ml_collections import ConfigDict

from mcl_jax.config import base_config, grew, triplet


def get_config() -> ConfigDict:
    """Returns the config of this run."""
    config = base_config()
    grew(config)
    triplet(config)
    return config
