"""GaitBase with MCL on GREW.

    python -m mcl_jax.main --config configs/grew_mcl.py --config.data.root=DIR

Published: rank-1 61.2, rank-5 75.9, rank-10 81.1.

The GREW test set is scored by the benchmark: testing writes the submission it takes.
"""

from ml_collections import ConfigDict

from mcl_jax.config import base_config, grew, mcl


def get_config() -> ConfigDict:
    """Returns the config of this run."""
    config = base_config()
    grew(config)
    mcl(config, weight=1.2, ce_weight=0.8)
    return config
