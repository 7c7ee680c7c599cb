r"""GaitBase with triplet loss on Gait3D.

    python -m mcl_jax.main --config configs/gait3d_triplet.py --config.data.root=DIR \
        --config.data.partition=Gait3D.json

Published: rank-1 64.6.
"""

from ml_collections import ConfigDict

from mcl_jax.config import base_config, gait3d, triplet, unfixed_unordered


def get_config() -> ConfigDict:
    """Returns the config of this run."""
    config = base_config()
    gait3d(config)
    unfixed_unordered(config, 10, 50)
    triplet(config)
    return config
