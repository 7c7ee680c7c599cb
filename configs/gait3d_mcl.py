r"""GaitBase with MCL on Gait3D.

    python -m mcl_jax.main --config configs/gait3d_mcl.py --config.data.root=DIR \
        --config.data.partition=Gait3D.json

Published: rank-1 66.6, rank-5 80.2, mAP 55.7.
"""

from ml_collections import ConfigDict

from mcl_jax.config import base_config, gait3d, mcl, unfixed_unordered


def get_config() -> ConfigDict:
    """Returns the config of this run."""
    config = base_config()
    gait3d(config)
    unfixed_unordered(config, 10, 50)
    mcl(config, weight=1.2, ce_weight=0.8)
    return config
