r"""GaitSet on Gait3D.

    python -m mcl_jax.main --config configs/gait3d_gaitset.py --config.data.root=DIR \
        --config.data.partition=Gait3D.json

Published: rank-1 36.7, rank-5 58.3, mAP 30.0.
"""

from ml_collections import ConfigDict

from mcl_jax.config import adam, base_config, gait3d, gaitset, steps


def get_config() -> ConfigDict:
    """Returns the config of this run."""
    config = base_config()
    gait3d(config)
    gaitset(config)
    adam(config, lr=1e-3, weight_decay=5e-4)
    steps(config, 180_000, 30_000, 90_000)
    return config
