r"""DeepGaitV2-P3D with interval sampling on Gait3D.

    python -m mcl_jax.main --config configs/gait3d_deepgaitv2_interval.py --config.data.root=DIR \
        --config.data.partition=Gait3D.json

Published: rank-1 75.5.
"""

from ml_collections import ConfigDict

from mcl_jax.config import base_config, deepgaitv2_p3d, gait3d, ordered


def get_config() -> ConfigDict:
    """Returns the config of this run."""
    config = base_config()
    gait3d(config)
    deepgaitv2_p3d(config)
    ordered(config, 30, skip=0, rates=(1, 3))
    return config
